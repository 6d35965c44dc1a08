"""How results reach the disk: whole or not at all."""
