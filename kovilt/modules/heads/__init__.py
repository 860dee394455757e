"""The objectives. A file holds one: what is sampled, the projection, the loss and its weight."""
