//! How precisely a row is stored: the closed list of levels.

/// One way to store a value. The discriminants are stored in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Level {
    /// IEEE 754 binary64.
    F64 = 0,
    /// IEEE 754 binary32.
    F32 = 1,
    /// IEEE 754 binary16.
    F16 = 2,
    /// A signed byte, with one float32 scale per row.
    F8 = 3,
}

impl Level {
    /// The level of a stored code.
    pub fn from_code(code: u32) -> Option<Self> {
        [Level::F64, Level::F32, Level::F16, Level::F8].into_iter().find(|&l| l as u32 == code)
    }

    /// Bytes per stored value.
    pub fn value_bytes(self) -> usize {
        match self {
            Level::F64 => 8,
            Level::F32 => 4,
            Level::F16 => 2,
            Level::F8 => 1,
        }
    }

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Level::F64 => "f64",
            Level::F32 => "f32",
            Level::F16 => "f16",
            Level::F8 => "f8",
        }
    }
}
