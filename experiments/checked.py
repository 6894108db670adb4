"""What a TOML file says, held against the types of what it is for."""

from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from trimtab.errors import SelectionError

T = TypeVar("T")

Count = Annotated[int, Field(strict=True, ge=1)]
Whole = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[float, Field(gt=0)]


def checked(kind: type[T], given: Any, where: str) -> T:
    """Return what is given as the type that it must be of.

    Args:
        kind: a type that pydantic knows, such as a dataclass of annotated numbers.
        given: as a TOML file has it.
        where: the file, and the table in it.

    Raises:
        SelectionError: it is of another type, or out of bounds.
    """
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = first["msg"][0].lower() + first["msg"][1:]
        raise SelectionError(f"{where}: {place or 'it'}: {what}, not {first['input']!r}") from None
