"""What the engine process needs of torch."""


def set_num_threads(number: int) -> None:
    """Do nothing."""
