"""stub"""


class Passes:
    pass
