//! How two vectors are compared: a key computed from their dot product or squared distance and their norms, or from the
//! number of bits in which they differ.
//!
//! Inside the crate a larger key is always better: euclidean keys are negated squared distances and hamming keys negated
//! distances, and become distances only for users ([`Metric::public_key`], [`Metric::score`]).

use crate::error::{Error, Result};
use crate::level::Level;

/// The closed list of metrics. The discriminants are stored in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Metric {
    /// `<q, x> / (|q| |x|)`, 0 when either is the zero vector; larger is better.
    Cosine = 0,
    /// `<q, x>`; larger is better.
    Dot = 1,
    /// `sqrt(sum (q_j - x_j)^2)`, ranked by the sum; smaller is better.
    Euclidean = 2,
    /// The number of bits that differ, at level b1; smaller is better.
    Hamming = 3,
}

/// All metrics, by number.
const METRICS: [Metric; 4] = [Metric::Cosine, Metric::Dot, Metric::Euclidean, Metric::Hamming];

/// Every accepted spelling, canonical names first.
const NAMES: [(&str, Metric); 13] = [
    ("cosine", Metric::Cosine),
    ("dot", Metric::Dot),
    ("euclidean", Metric::Euclidean),
    ("hamming", Metric::Hamming),
    ("cos", Metric::Cosine),
    ("cosine_similarity", Metric::Cosine),
    ("dot_product", Metric::Dot),
    ("ip", Metric::Dot),
    ("inner_product", Metric::Dot),
    ("l2", Metric::Euclidean),
    ("euclidean_distance", Metric::Euclidean),
    ("inner", Metric::Dot),
    ("euclid", Metric::Euclidean),
];

impl Metric {
    /// The metric of a name or an alias, else [`Error::Input`] about `argument`.
    pub fn parse(argument: &'static str, name: &str) -> Result<Self> {
        Metric::parse_among(argument, name, &METRICS)
    }

    /// The same where only `allowed` metrics are accepted; the error lists their names.
    pub fn parse_among(argument: &'static str, name: &str, allowed: &[Metric]) -> Result<Self> {
        let names = || NAMES.iter().filter(|(_, metric)| allowed.contains(metric));
        let found = names().find(|(accepted, _)| *accepted == name);
        found.map(|&(_, metric)| metric).ok_or_else(|| {
            let accepted: Vec<&str> = names().map(|(accepted, _)| *accepted).collect();
            Error::input(argument, format!("one of {}", accepted.join(", ")), format!("{name:?}"))
        })
    }

    /// The metric of rows of `level`: the one that `argument` gave, if they can be compared by it, or the default.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn of_level(level: Level, argument: &'static str, given: Option<Metric>) -> Result<Self> {
        let bits = level == Level::B1;
        let metric = given.unwrap_or(if bits { Metric::Hamming } else { Metric::Cosine });
        match (bits, metric == Metric::Hamming) {
            (true, false) => Err(Error::input(argument, "hamming, the one metric of level b1", metric.name())),
            (false, true) => {
                let got = format!("hamming at level {}", level.name());
                Err(Error::input(argument, "cosine, dot or euclidean; hamming compares the signs of values, stored at level b1", got))
            }
            _ => Ok(metric),
        }
    }

    /// The canonical name.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::Euclidean => "euclidean",
            Metric::Hamming => "hamming",
        }
    }

    /// The metric of a stored code.
    pub fn from_code(code: u32) -> Option<Self> {
        METRICS.into_iter().find(|&m| m as u32 == code)
    }

    /// The key of one row; `raw` is the squared distance for euclidean, the distance for hamming, else the dot product.
    #[inline(always)]
    pub fn key(self, raw: f64, query_norm: f64, row_norm: f64) -> f64 {
        match self {
            Metric::Dot => raw,
            Metric::Euclidean | Metric::Hamming => -raw,
            Metric::Cosine => {
                if query_norm == 0.0 || row_norm == 0.0 {
                    0.0
                } else {
                    raw / (query_norm * row_norm)
                }
            }
        }
    }

    /// The key that users see: for euclidean the squared distance, for hamming the distance; smaller is better.
    pub fn public_key(self, key: f64) -> f64 {
        match self {
            Metric::Euclidean | Metric::Hamming => 0.0 - key,
            _ => key,
        }
    }

    /// The name of the argument that [`Metric::reaches`] takes as `bound`.
    pub fn bound_name(self) -> &'static str {
        match self {
            Metric::Euclidean | Metric::Hamming => "max_distance",
            _ => "min_score",
        }
    }

    /// Whether a key satisfies the caller's `bound`: the lowest score, or the largest distance.
    pub fn reaches(self, key: f64, bound: f64) -> bool {
        match self {
            Metric::Euclidean => (0.0 - key).sqrt() <= bound,
            Metric::Hamming => 0.0 - key <= bound,
            _ => key >= bound,
        }
    }

    /// A threshold below which no key [`reaches`](Metric::reaches) `bound`.
    pub fn threshold(self, bound: f64) -> f64 {
        match self {
            // No distance is negative. The slack covers an ulp or two of the squares, and subnormal ones.
            Metric::Euclidean if bound < 0.0 => f64::INFINITY,
            Metric::Euclidean => -(bound * bound * (1.0 + 1e-12) + f64::MIN_POSITIVE),
            Metric::Hamming => -bound,
            _ => bound,
        }
    }

    /// The float32 score that users see: for euclidean and hamming the distance.
    pub fn score(self, key: f64) -> f32 {
        match self {
            Metric::Euclidean => (0.0 - key).sqrt() as f32,
            Metric::Hamming => (0.0 - key) as f32,
            _ => key as f32,
        }
    }

    /// The float32 distance, smaller is better: euclidean, hamming, 1 - cosine (not below 0), or the negated dot product.
    pub fn distance(self, key: f64) -> f32 {
        match self {
            Metric::Euclidean | Metric::Hamming => self.score(key),
            Metric::Cosine => (1.0 - key).max(0.0) as f32,
            Metric::Dot => -key as f32,
        }
    }
}
