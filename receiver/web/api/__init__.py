"""The JSON API under `/api`, its OpenAPI document, health and metrics."""
