"""What a student looks at: a run's curves, a network's layers and gradients, the course's experiments. Measuring and
drawing are plain functions; `host.callbacks` ties them to SuperGradients."""
