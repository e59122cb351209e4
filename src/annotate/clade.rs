//! Branches of life that have splice networks of their own.

use std::fmt;
use std::str::FromStr;

/// A branch of life. What was measured is one species of each: human, *Drosophila melanogaster*,
/// *Caenorhabditis elegans* and *Arabidopsis thaliana*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Clade {
    /// Vertebrates.
    #[default]
    Vertebrate,
    /// Insects.
    Insect,
    /// Nematodes.
    Nematode,
    /// Plants.
    Plant,
}

impl Clade {
    /// All of them.
    pub const ALL: [Clade; 4] = [
        Clade::Vertebrate,
        Clade::Insect,
        Clade::Nematode,
        Clade::Plant,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Clade::Vertebrate => "vertebrate",
            Clade::Insect => "insect",
            Clade::Nematode => "nematode",
            Clade::Plant => "plant",
        }
    }
}

impl fmt::Display for Clade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Clade {
    type Err = String;
    fn from_str(name: &str) -> Result<Clade, String> {
        let mut all = Clade::ALL.into_iter();
        all.find(|clade| clade.name() == name).ok_or_else(|| {
            let names = Clade::ALL.map(Clade::name).join(", ");
            format!("no clade {name:?}: {names}")
        })
    }
}
