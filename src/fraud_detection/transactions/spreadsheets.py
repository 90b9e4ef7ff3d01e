"""Texts of the data in files that people open with a spreadsheet."""

import pyarrow as pa
import pyarrow.compute as pc

# OWASP, CSV Injection. A spreadsheet may overlook white space before the sign, and takes the wide form for the sign.
_FORMULA = r"^(\s*[=+\-@＝＋－＠]|[\t\r\n'])"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def harmless_texts(texts: pa.StringArray) -> pa.StringArray:
    """Texts that a spreadsheet does not run: an apostrophe before those that begin like a formula and are no number.

    Texts that begin with an apostrophe get one more, so leaving out the first one always gives the original.
    """
    formula = pc.and_not(pc.match_substring_regex(texts, _FORMULA), pc.match_substring_regex(texts, _NUMBER))
    return pc.if_else(pc.fill_null(formula, False), pc.binary_join_element_wise("'", texts, ""), texts)
