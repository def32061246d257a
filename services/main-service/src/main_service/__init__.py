"""The platform's example service: it counts what it answers, and the count scales it."""
