"""The address of an MLflow service: which forms there are, and how each is written for every library.

It imports no MLflow, so that a wrong address is answered before that is imported.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes

from fraud_detection.errors import SettingsError
from fraud_detection.masking import MASK

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_DRIVERS = {
    "postgresql": ("psycopg2", "psycopg2-binary"),
    "postgresql+psycopg2": ("psycopg2", "psycopg2-binary"),
    "postgresql+psycopg": ("psycopg", "psycopg[binary]"),
    "postgresql+pg8000": ("pg8000", "pg8000"),
    "mysql": ("MySQLdb", "mysqlclient"),
    "mysql+mysqldb": ("MySQLdb", "mysqlclient"),
    "mysql+pymysql": ("pymysql", "pymysql"),
    "mysql+mysqlconnector": ("mysql.connector", "mysql-connector-python"),
    "mssql": ("pyodbc", "pyodbc"),
    "mssql+pyodbc": ("pyodbc", "pyodbc"),
    "mssql+pymssql": ("pymssql", "pymssql"),
}
"""By the scheme of an address the module that SQLAlchemy imports for it, and the package that has it."""


def is_misread(path: str) -> bool:
    """Whether the path of an SQLite file means another to SQLAlchemy, which decodes it; MLflow reads it as it is."""
    return re.search(r"\?|%[0-9A-Fa-f]{2}", path) is not None


def is_database(uri: str) -> bool:
    """Whether MLflow opens a database itself at this address."""
    return uri.split(":", 1)[0].split("+", 1)[0] in _DATABASES


_ADDRESS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+]*)://(?:(?P<userinfo>[^/?#]*)@)?(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(?P<port>:\d+)?"
    r"(?P<rest>[/?#][^@]*)?"
)
_SHORTEST_SECRET = 4
"""A shorter password is hidden only in its address: elsewhere its letters are part of other words."""


def require_driver(uri: str) -> None:
    """Stop before MLflow is imported where it could not open the database.

    Raises:
        SettingsError: the package that connects to such a database is not installed.
    """
    scheme = uri.split(":", 1)[0]
    module, package = _DRIVERS.get(scheme, (None, ""))
    if module is not None and not _is_installed(module):
        raise SettingsError(
            f"--tracking-uri is a {scheme} database, and the Python package {package}, which connects to it, is not"
            f" installed; next: pip install '{package}', or give the address of an MLflow server: http://HOST:PORT"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # of the package around it
        return False


def checked_address(uri: str) -> str:
    """The address with an absolute path, and with the special characters of user and password encoded.

    Raises:
        SettingsError: it is not the address of an MLflow service.
    """
    scheme = uri.split(":", 1)[0]
    expected = "expected http://HOST:PORT, https://HOST or sqlite:///PATH/mlflow.db"
    if scheme == "sqlite":
        path = uri.removeprefix("sqlite:///")
        if path in ("", uri) or path.startswith(":memory:"):
            raise SettingsError(f"--tracking-uri {' '.join(uri.split())} is not an SQLite file; {expected}")
        if is_misread(Path(path).name):
            raise SettingsError(
                f"MLflow cannot open the database {path}: its name contains ? or an encoded character such as %20;"
                f" rename the file; {expected}"
            )
        return f"sqlite:///{Path(path).absolute()}"
    if scheme not in ("http", "https") and not ("://" in uri and is_database(uri)):
        found = scheme if "://" in uri and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else "a path"
        raise SettingsError(f"--tracking-uri is {found}, not the address of an MLflow service; {expected}")
    found_parts = _ADDRESS.fullmatch(uri)
    if found_parts is None:
        raise SettingsError(f"--tracking-uri {_why_not_read(uri)}; {expected}")
    if found_parts["userinfo"] == MASK:
        raise SettingsError(
            f"--tracking-uri {uri} comes from a message, which hides user and password behind {MASK}; write them there,"
            " or leave the option out where MLFLOW_TRACKING_URI holds the address"
        )
    encoded = _encoded(found_parts["userinfo"])
    address = f"{scheme}://{encoded}{found_parts['host']}{found_parts['port'] or ''}{found_parts['rest'] or ''}"
    return address.rstrip("/") if scheme in ("http", "https") else address


def _why_not_read(uri: str) -> str:
    """What is wrong with an address that cannot be parsed. It is not repeated: it may contain a password."""
    _, _, after = uri.partition("://")
    if "@" in after:
        return (
            "cannot be read: in a user or password write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25,"
            " or set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    if re.match(r"[/?#]|$", after):
        return "names no host"
    return "names a host or port that cannot be one"


def _encoded(userinfo: str | None) -> str:
    """User and password as every library reads them, whether they came percent-encoded or not."""
    if userinfo is None:
        return ""
    user, colon, password = userinfo.partition(":")
    return f"{quote(unquote_to_bytes(user), safe='')}{colon}{quote(unquote_to_bytes(password), safe='')}@"


def spellings(uri: str) -> list[str]:
    """User and password of a checked address in every form that an error can contain, the longest first."""
    found = _ADDRESS.fullmatch(uri)
    if found is None or not found["userinfo"]:
        return []
    userinfo = found["userinfo"]
    secret = userinfo.partition(":")[2] or userinfo  # a token may stand alone
    forms = {f"{userinfo}@", f"{unquote(userinfo)}@", *(repr(unquote(secret))[1:-1], secret, unquote(secret))}
    return sorted((form for form in forms if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)
