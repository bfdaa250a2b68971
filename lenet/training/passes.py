"""stub"""
class Passes:
    pass
