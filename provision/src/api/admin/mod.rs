//! What operators ask: everything under `/v1/admin`.

pub mod dto;
