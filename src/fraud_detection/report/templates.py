"""The templates of HTML pages: everything is escaped, and a name that is not given is an error."""

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

from fraud_detection.report import wording


@cache
def page_template(name: str, room: str = "report") -> Template:
    """A page of a room of the library; it may include what the reports have: style and charts.

    Names of columns, shapes and categories come from data, and reasons from people.
    """
    rooms = dict.fromkeys((room, "report"))
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("fraud_detection", one) for one in rooms]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["w"] = wording
    return environment.get_template(name)
