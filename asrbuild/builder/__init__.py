"""Builds: composes a recipe, runs its stages, and publishes the artifact."""
