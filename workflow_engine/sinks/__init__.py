"""Where events go: plugins and sinks of the project's own."""
