//! x
/// p
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
/// o
pub object: String,
/// m
pub message: String,
/// a
pub affects: Vec<String>,
}
