from typing import Any

MatLike = Any
