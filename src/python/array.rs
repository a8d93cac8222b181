//! numpy arrays as slices, and vectors as numpy arrays, without copies.
//!
//! Which of several types came is asked of the object: to try one extraction after the other makes errors on the way,
//! and making one fails while the interpreter shuts down.

use super::error::raise;
use crate::candidates::Filter;
use crate::hits::Hits;
use crate::index::Index;
use crate::input::Block;
use crate::store::ids::{Id, IdSlice};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyList, PyString};

/// Borrows an array once: the first time looks up what numpy shares with extensions, by imports that fail while the
/// interpreter shuts down.
pub fn connect(py: Python<'_>) -> PyResult<()> {
    // An error where numpy is missing; the lookup would panic.
    py.import("numpy")?;
    let _ = PyArray1::<u8>::zeros(py, 0, false).readonly();
    Ok(())
}

/// A contiguous matrix of one of the four types that hold every real numpy type exactly, or of packed bits.
pub enum Matrix<'py> {
    F32(PyReadonlyArray2<'py, f32>),
    F64(PyReadonlyArray2<'py, f64>),
    I64(PyReadonlyArray2<'py, i64>),
    U64(PyReadonlyArray2<'py, u64>),
    Bits(PyReadonlyArray2<'py, u8>),
}

impl<'py> FromPyObject<'_, 'py> for Matrix<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = given.cast::<PyArray2<f32>>() {
            Ok(Matrix::F32(array.try_readonly()?))
        } else if let Ok(array) = given.cast::<PyArray2<f64>>() {
            Ok(Matrix::F64(array.try_readonly()?))
        } else if let Ok(array) = given.cast::<PyArray2<i64>>() {
            Ok(Matrix::I64(array.try_readonly()?))
        } else if let Ok(array) = given.cast::<PyArray2<u8>>() {
            Ok(Matrix::Bits(array.try_readonly()?))
        } else {
            Ok(Matrix::U64(given.cast::<PyArray2<u64>>()?.try_readonly()?))
        }
    }
}

impl Matrix<'_> {
    /// Its numbers, row after row.
    pub fn block(&self) -> PyResult<Block<'_>> {
        Ok(match self {
            Matrix::F32(array) => Block::F32(array.as_slice()?),
            Matrix::F64(array) => Block::F64(array.as_slice()?),
            Matrix::I64(array) => Block::I64(array.as_slice()?),
            Matrix::U64(array) => Block::U64(array.as_slice()?),
            Matrix::Bits(array) => Block::Bits(array.as_slice()?),
        })
    }

    /// (rows, numbers in a row).
    pub fn shape(&self) -> [usize; 2] {
        let shape = match self {
            Matrix::F32(array) => array.shape(),
            Matrix::F64(array) => array.shape(),
            Matrix::I64(array) => array.shape(),
            Matrix::U64(array) => array.shape(),
            Matrix::Bits(array) => return [array.shape()[0], 8 * array.shape()[1]],
        };
        [shape[0], shape[1]]
    }
}

/// A mask or ids.
pub enum Allowed<'py> {
    Mask(PyReadonlyArray1<'py, bool>),
    Ids(GivenIds<'py>),
}

/// Ids: an int64 array, or a list of strings.
pub enum GivenIds<'py> {
    Numbers(PyReadonlyArray1<'py, i64>),
    Texts(Vec<PyBackedStr>),
}

impl<'py> FromPyObject<'_, 'py> for GivenIds<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match given.cast::<PyArray1<i64>>() {
            Ok(numbers) => Ok(GivenIds::Numbers(numbers.try_readonly()?)),
            Err(_) => given
                .cast::<PyList>()?
                .iter()
                .map(|text| PyBackedStr::try_from(text.cast_into::<PyString>()?))
                .collect::<PyResult<_>>()
                .map(GivenIds::Texts),
        }
    }
}

impl GivenIds<'_> {
    /// The texts as slices; empty of numbers.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            GivenIds::Numbers(_) => Vec::new(),
            GivenIds::Texts(texts) => texts.iter().map(|text| &**text).collect(),
        }
    }

    /// The ids of the core; `texts` are those of [`GivenIds::texts`].
    pub fn slice<'a>(&'a self, texts: &'a [&'a str]) -> PyResult<IdSlice<'a>> {
        match self {
            GivenIds::Numbers(numbers) => Ok(IdSlice::Numbers(numbers.as_slice()?)),
            GivenIds::Texts(_) => Ok(IdSlice::Texts(texts)),
        }
    }
}

/// Ids as an int64 array, or as a list of strings.
pub fn ids<'py>(py: Python<'py>, ids: &[Id]) -> PyResult<Bound<'py, PyAny>> {
    if ids.iter().any(|id| matches!(id, Id::Text(_))) {
        let texts = ids.iter().map(|id| if let Id::Text(text) = id { text } else { "" });
        return Ok(PyList::new(py, texts)?.into_any());
    }
    let numbers = ids.iter().map(|id| if let Id::Number(number) = id { *number } else { 0 });
    Ok(PyArray1::from_vec(py, numbers.collect()).into_any())
}

impl<'py> FromPyObject<'_, 'py> for Allowed<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match given.cast::<PyArray1<bool>>() {
            Ok(mask) => Ok(Allowed::Mask(mask.try_readonly()?)),
            Err(_) => given.extract().map(Allowed::Ids),
        }
    }
}

impl Allowed<'_> {
    /// Texts among the ids.
    pub fn texts(&self) -> Vec<&str> {
        if let Allowed::Ids(ids) = self { ids.texts() } else { Vec::new() }
    }

    /// The filter of the core; `texts` are those of [`Allowed::texts`].
    pub fn filter<'a>(&'a self, texts: &'a [&'a str]) -> PyResult<Filter<'a>> {
        Ok(match self {
            Allowed::Mask(mask) => Filter::Mask(mask.as_slice()?),
            Allowed::Ids(ids) => Filter::Ids(ids.slice(texts)?),
        })
    }
}

/// The fields of a certificate, in their order.
pub type CertificateTuple = (u64, u64, u64, u64, f64, f64, bool);

/// Ids, scores and keys, those of all queries one after the other, a certificate a query, and hits a query.
pub type HitArrays<'py> = (Bound<'py, PyAny>, Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<f64>>, Vec<CertificateTuple>, usize);

/// Hands the hits of `index` over; without a copy where ids are row numbers.
pub fn hits<'py>(py: Python<'py>, index: &Index, hits: Hits) -> PyResult<HitArrays<'py>> {
    let found = if index.numbered() {
        PyArray1::from_vec(py, hits.rows).into_any()
    } else {
        let found = index.ids_of(hits.rows.iter().map(|&row| row as usize)).map_err(raise)?;
        // Without hits the type of ids cannot be told from them.
        if found.is_empty() && index.ids().texts == Some(true) { PyList::empty(py).into_any() } else { ids(py, &found)? }
    };

    let certificates =
        hits.certificates.iter().map(|c| (c.rows, c.bounded, c.refined, c.bytes_read, c.kth_key, c.best_bound_left, c.exact)).collect();
    let (scores, keys) = (PyArray1::from_vec(py, hits.scores), PyArray1::from_vec(py, hits.keys));
    Ok((found, scores, keys, certificates, hits.per_query))
}

/// Hands `values` over as a matrix without a copy.
pub fn matrix<T: numpy::Element>(py: Python<'_>, values: Vec<T>, shape: [usize; 2]) -> PyResult<Bound<'_, PyArray2<T>>> {
    PyArray1::from_vec(py, values).reshape(shape)
}
