"""The batch that the loader makes and the models read."""
