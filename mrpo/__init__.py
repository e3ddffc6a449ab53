"""mrpo: multi-reward policy optimization on verl. Importing this package pulls in neither torch nor Ray nor verl."""

__version__ = "0.1.0"
