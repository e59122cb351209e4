//! Tiers of a network.

/// Which output of a [`Cascade`](super::manifest::Cascade) is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tier {
    /// The fast one.
    Fast,
    /// The better one, everywhere.
    Accurate,
    /// The better one around whatever survives the fast one. Scores are those of
    /// [`Tier::Accurate`], and 0 elsewhere.
    #[default]
    Auto,
}

impl Tier {
    /// The name on the command line and behind the model's.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Fast => "fast",
            Tier::Accurate => "accurate",
            Tier::Auto => "auto",
        }
    }
}
