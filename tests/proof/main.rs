//! Codes change no answer: bounds are compared with exact cosines and keys, for quantizers learnt and made by hand to be
//! bad, and scans that use codes with scans of every row.

mod attained;
mod bounds;
mod limits;
mod quantizers;
mod search;
mod tables;
