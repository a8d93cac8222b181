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
    /// One bit a value, as numpy.packbits packs them: the first value in the highest bit of the first byte.
    B1 = 4,
}

const LEVELS: [Level; 5] = [Level::F64, Level::F32, Level::F16, Level::F8, Level::B1];

impl Level {
    /// The level of a name; [`Error::Input`] for any other name.
    pub fn parse(name: &str) -> Result<Self> {
        let found = LEVELS.into_iter().find(|level| level.name() == name);
        found.ok_or_else(|| Error::input("level", "one of f64, f32, f16, f8, b1", format!("{name:?}")))
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
            Level::B1 => "b1",
        }
    }

    /// The type of a stored value, as numpy names it.
    pub fn type_name(self) -> &'static str {
        match self {
            Level::F64 => "float64",
            Level::F32 => "float32",
            Level::F16 => "float16",
            Level::F8 => "int8 with a float32 scale",
            Level::B1 => "a bit",
        }
    }

    /// Bytes of the stored values of a row.
    pub fn row_bytes(self, dims: usize) -> usize {
        match self {
            Level::F64 => 8 * dims,
            Level::F32 => 4 * dims,
            Level::F16 => 2 * dims,
            Level::F8 => dims,
            Level::B1 => dims.div_ceil(8),
        }
    }

    /// Refuses a number of values that does not fill the bytes of a row.
    ///
    /// # Errors
    /// [`Error::Input`] about `argument`.
    pub fn check_dims(self, argument: &'static str, dims: usize) -> Result<()> {
        if self == Level::B1 && !dims.is_multiple_of(8) {
            return Err(Error::input(argument, "a multiple of 8 values a row, as level b1 packs 8 to a byte", dims));
        }
        Ok(())
    }

    /// Whether rows have norms: bits are counted without.
    pub fn has_norms(self) -> bool {
        self != Level::B1
    }

    /// Whether rows may have codes, which bound sums of values.
    pub fn may_have_codes(self) -> bool {
        !matches!(self, Level::F8 | Level::B1)
    }
}
