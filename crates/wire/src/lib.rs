//! What crosses HTTP: requests, responses, events, errors and their OpenAPI description.
