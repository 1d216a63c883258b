//! The OpenAPI document of all routes.

pub mod shapes;
