"""What goes wrong, with its place."""


class InputError(ValueError):
    """Something in reads or in a file of reads.

    ``file`` is the input, where it is one; ``record`` the record's number in it, from 1; ``byte``
    where it lies: in the uncompressed file, or in the sequence. Each is None where unknown.
    """

    def __init__(self, message, file=None, record=None, byte=None):
        super().__init__(message, file, record, byte)
        self.message = message
        self.file = file
        self.record = record
        self.byte = byte

    def __str__(self):
        return self.message


class ModelError(ValueError):
    """A model file that cannot be opened or run; the message names file, byte and reason."""
