"""What a student looks at: curves of a run. Data and drawing are plain functions; `callbacks` ties them to the host."""
