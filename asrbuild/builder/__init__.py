"""From a recipe to a published artifact."""
