//! x
/// x
pub struct Pair {
    /// x
    pub good: String,
    /// x
    pub bad: String,
    /// x
    pub phenomenon: String,
}
/// x
pub fn read(_p: &std::path::Path) -> Result<Vec<Pair>, crate::DataError> {
    Ok(Vec::new())
}
