//! Levels: the types in which rows are stored. A value is rounded once, to nearest even, when it is written; kernels
//! decode it.

pub mod f16;
pub mod f8;

use crate::error::{Error, Result};

/// The closed list of levels. The discriminants are stored in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// float64, 8 bytes a value.
    F64 = 0,
    /// float32, 4 bytes a value.
    F32 = 1,
    /// IEEE 754 binary16, 2 bytes a value.
    F16 = 2,
    /// One signed byte a value and one float32 scale a row.
    F8 = 3,
}

const LEVELS: [Level; 4] = [Level::F64, Level::F32, Level::F16, Level::F8];

impl Level {
    /// The level of a name; [`Error::Input`] for any other name.
    pub fn parse(name: &str) -> Result<Self> {
        let found = LEVELS.into_iter().find(|level| level.name() == name);
        found.ok_or_else(|| Error::input("level", "one of f64, f32, f16, f8", format!("{name:?}")))
    }

    /// The level of a stored code.
    pub fn from_code(code: u32) -> Option<Self> {
        LEVELS.into_iter().find(|&level| level as u32 == code)
    }

    /// The name that users pass.
    pub fn name(self) -> &'static str {
        match self {
            Level::F64 => "f64",
            Level::F32 => "f32",
            Level::F16 => "f16",
            Level::F8 => "f8",
        }
    }

    /// The type of a stored value, as numpy names it.
    pub fn type_name(self) -> &'static str {
        match self {
            Level::F64 => "float64",
            Level::F32 => "float32",
            Level::F16 => "float16",
            Level::F8 => "int8 with a float32 scale",
        }
    }

    /// Bytes of one stored value.
    pub fn value_bytes(self) -> usize {
        match self {
            Level::F64 => 8,
            Level::F32 => 4,
            Level::F16 => 2,
            Level::F8 => 1,
        }
    }
}
