//! That codes never change an answer: bounds against exact cosines and keys, for learnt coders and
//! for coders made by hand to be bad, and the certified scan against the scan of every row.

mod attained;
mod bounds;
mod limits;
mod quantizers;
mod search;
mod tables;
