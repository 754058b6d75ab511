//! Whether a dump's config asks for what a mixer may be and the file can hold, before anything is made of it.

use super::{Golden, GoldenError};
use crate::core::limits;
use crate::{Dims, Family};

impl Golden {
    /// Whether a layer of these settings may be built: no number beyond its limit, nothing that [`Family::check`] refuses,
    /// and no larger than the parameters in the file.
    pub fn settings<F: Family>(&self, cfg: &F, dims: &Dims) -> Result<(), GoldenError> {
        self.within_limits(cfg, dims)?;
        self.checked(&cfg.check(dims))?;
        self.no_larger(cfg.scalars(dims))
    }

    /// Whether every whole number of `cfg` and `dims` is within its limit; asked before anything is computed from them.
    pub fn within_limits<F: Family>(&self, cfg: &F, dims: &Dims) -> Result<(), GoldenError> {
        let values = serde_json::to_value(cfg).map_err(|e| self.malformed(e.to_string()))?;
        self.checked(&limits::beyond(&values, dims))
    }

    /// Whether a layer of about `scalars` numbers can be the one in the file.
    pub fn no_larger(&self, scalars: f64) -> Result<(), GoldenError> {
        let stored: usize = self.names("param").iter().map(|name| self.tensors[&format!("param.{name}")].numel()).sum();
        if scalars <= 2.5 * stored as f64 + 1e4 {
            return Ok(());
        }
        Err(self.malformed(format!("the config asks for {scalars:.1e} parameters, and the file has {stored}")))
    }
}
