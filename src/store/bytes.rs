//! Shared immutable bytes: a mapped file, or anonymous memory that was filled once.
//!
//! All map calls of the crate are here, its files without a name, and its only unsafe code outside `kernel/`. Regions
//! start on a cache line, so any section of a file that is aligned to 64 bytes can be viewed as values of its type. Anonymous
//! memory starts zeroed, is an error instead of an abort where the system refuses it, and is freed with the last clone.
//!
//! A file is mapped twice: one map is for streaming, and the system reads ahead; the other is for random access, and
//! the system reads only the pages that are touched. The advice of a map never changes, so searches of different
//! kinds do not disturb each other. Both maps share the same pages of memory.
//!
//! Other programs must not shorten or rewrite a mapped file while it is open; nseekfs itself only replaces files
//! whole. Touching a lost page of a shortened file would kill the process; [`Bytes::check_len`] gives an error first.

use crate::error::{Error, Result, filled};
use bytemuck::{AnyBitPattern, Pod, Zeroable};
use memmap2::{Mmap, MmapMut, MmapOptions};
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Seek};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Anonymous memory from this size on uses huge pages if it can: two of the usual 2 MiB.
#[cfg(target_os = "linux")]
const HUGE: usize = 4 << 20;

/// Bytes of a file that are read between two checks for an interrupt.
const READ_BLOCK: usize = 4 << 20;

/// Memory from this size on is a map of its own: below, making and freeing one takes longer than filling it.
const MAPPED: usize = 64 << 10;

/// A cache line: small memory is aligned as sections of files are.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// What holds the bytes of a region.
#[derive(Debug)]
enum Memory {
    /// A file, or anonymous memory.
    Map(Mmap),
    /// Less than [`MAPPED`] bytes, so many of these lines.
    Small(Vec<Line>, usize),
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Memory::Map(map) => map,
            Memory::Small(lines, len) => &bytemuck::cast_slice(lines)[..*len],
        }
    }
}

/// An immutable region of bytes; clones share it.
#[derive(Debug, Clone)]
pub struct Bytes(Arc<Region>);

#[derive(Debug)]
struct Region {
    memory: Memory,
    /// The mapped file; `None` for anonymous memory.
    file: Option<(Arc<File>, PathBuf)>,
    /// Where the map ends in the file.
    end: u64,
    /// The file's map for random access; `None` for anonymous memory.
    scattered: Option<Mmap>,
}

impl Bytes {
    /// Maps a regular file, read-only; [`Error::Io`] for anything else.
    pub fn map(path: &Path) -> Result<Self> {
        // Checked before opening, because opening a pipe would wait for its other end.
        regular_file(path)?;
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let len = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let len = usize::try_from(len).map_err(|_| Error::Memory { bytes: len, purpose: "the map of a file" })?;
        Self::map_range(Arc::new(file), path, 0..len)
    }

    /// Maps other bytes of the same file, which must be that long by now; `None` of anonymous memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remap(&self, range: Range<usize>) -> Result<Option<Self>> {
        self.0.file.as_ref().map(|(file, path)| Self::map_range(file.clone(), path, range)).transpose()
    }

    /// A map of all bytes that the file has by now; anonymous memory is returned as it is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn whole_file(&self) -> Result<Self> {
        let Some((file, path)) = &self.0.file else { return Ok(self.clone()) };
        let len = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let len = usize::try_from(len).map_err(|_| Error::Memory { bytes: len, purpose: "the map of a file" })?;
        Self::map_range(file.clone(), path, 0..len)
    }

    fn map_range(file: Arc<File>, path: &Path, range: Range<usize>) -> Result<Self> {
        // SAFETY: the map is read-only and within the file, which Region keeps open; the module's condition is that nobody
        // shortens or rewrites it meanwhile.
        let map = || unsafe { MmapOptions::new().offset(range.start as u64).len(range.len()).map(&*file) }.map_err(|e| Error::io(path, e));
        let (map, scattered) = (map()?, map()?);
        // A hint: where it is refused, more pages are read than needed.
        #[cfg(unix)]
        let _ = scattered.advise(memmap2::Advice::Random);
        let (memory, scattered) = (Memory::Map(map), Some(scattered));
        Ok(Bytes(Arc::new(Region { memory, file: Some((file, path.to_owned())), end: range.end as u64, scattered })))
    }

    /// Reads the mapped file into anonymous memory; anonymous memory is returned as it is.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a shortened file; [`Error::Memory`]; that of `tick`, called every 4 MB.
    pub fn into_ram(self, tick: &dyn Fn() -> Result<()>) -> Result<Self> {
        let Some((file, path)) = &self.0.file else { return Ok(self) };
        let mut copy = BytesMut::zeroed(self.len(), "a copy of the file")?;
        let mut reader = &**file;
        reader.rewind().map_err(|e| Error::io(path, e))?;
        for block in copy.all_mut().chunks_mut(READ_BLOCK) {
            tick()?;
            if let Err(source) = reader.read_exact(block) {
                self.check_len()?;
                return Err(Error::io(path, source));
            }
        }
        copy.freeze()
    }

    /// [`Error::Format`] if the mapped file has been shortened: one `fstat`, cheap enough for every query.
    pub fn check_len(&self) -> Result<()> {
        let Some((file, path)) = &self.0.file else { return Ok(()) };
        let now = file.metadata().map_err(|e| Error::io(path, e))?.len();
        if now < self.0.end {
            let reason = format!("F16: file length: {} bytes when it was opened, {now} now: another program has cut it", self.0.end);
            return Err(Error::Format { path: path.clone(), reason });
        }
        Ok(())
    }

    /// `range` as values of `T`, in place.
    ///
    /// # Panics
    /// If `range` is outside the region, not aligned for `T` or not whole values; a checked header has no such ranges.
    pub fn view<T: AnyBitPattern>(&self, range: Range<usize>) -> &[T] {
        values(&self[range])
    }

    /// The mapped file; `None` for anonymous memory.
    pub fn file(&self) -> Option<&File> {
        self.0.file.as_ref().map(|(file, _)| &**file)
    }

    /// Whether the region is a mapped file.
    pub fn mapped(&self) -> bool {
        self.0.file.is_some()
    }

    /// The same bytes for random access: of a mapped file, only the pages that are touched are read.
    pub fn scattered(&self) -> &[u8] {
        self.0.scattered.as_deref().unwrap_or(&self.0.memory)
    }

    /// [`Bytes::view`] of [`Bytes::scattered`].
    pub fn view_scattered<T: AnyBitPattern>(&self, range: Range<usize>) -> &[T] {
        values(&self.scattered()[range])
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.memory
    }
}

/// Whether two handles are of one file: by device and inode, where the system has them.
#[cfg(unix)]
pub(crate) fn same_file(a: &File, b: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
    identity(a).is_some() && identity(a) == identity(b)
}

#[cfg(not(unix))]
pub(crate) fn same_file(_a: &File, _b: &File) -> bool {
    true
}

fn values<T: AnyBitPattern>(bytes: &[u8]) -> &[T] {
    // An empty range may start at any byte, aligned or not.
    if bytes.is_empty() { &[] } else { bytemuck::cast_slice(bytes) }
}

/// The metadata of a regular file, following links; [`Error::Io`] for anything else.
pub(crate) fn regular_file(path: &Path) -> Result<Metadata> {
    let found = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    let refuse = |kind, got: &str| Err(Error::io(path, std::io::Error::new(kind, format!("expected a file, got {got}"))));
    match found.file_type() {
        kind if kind.is_file() => Ok(found),
        kind if kind.is_dir() => refuse(ErrorKind::IsADirectory, "a directory"),
        _ => refuse(ErrorKind::InvalidInput, "a pipe or a device"),
    }
}

/// How many times this thread has waited for a page from disk; 0 where the system does not tell.
pub(super) fn major_faults() -> i64 {
    #[cfg(target_os = "linux")]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the call writes a struct of this type.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
        // SAFETY: all fields are numbers, zeroed above or written by the call.
        unsafe { usage.assume_init() }.ru_majflt
    }
    #[cfg(not(target_os = "linux"))]
    0
}

/// Makes the system start reading the pages of `bytes` that are not in memory, without waiting for them.
pub(super) fn request(bytes: &[u8]) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call takes any number and touches no memory.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as usize;
        let before = bytes.as_ptr() as usize % page;
        let start = bytes.as_ptr().wrapping_sub(before);
        // SAFETY: the pages hold a live slice, and the advice does not change them.
        unsafe { libc::madvise(start as *mut libc::c_void, before + bytes.len(), libc::MADV_WILLNEED) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// Anonymous memory that is being filled, to become [`Bytes`].
#[derive(Debug)]
pub struct BytesMut(Filling);

/// Memory that is written.
#[derive(Debug)]
enum Filling {
    Map(MmapMut),
    Small(Vec<Line>, usize),
}

impl BytesMut {
    /// `len` zero bytes for `purpose`, or [`Error::Memory`].
    pub fn zeroed(len: usize, purpose: &'static str) -> Result<Self> {
        if len < MAPPED {
            return Ok(BytesMut(Filling::Small(filled(len.div_ceil(size_of::<Line>()), Line::zeroed(), purpose)?, len)));
        }
        let map = MmapMut::map_anon(len).map_err(|_| Error::Memory { bytes: len as u64, purpose })?;
        #[cfg(target_os = "linux")]
        if len >= HUGE {
            // A hint, which systems without huge pages refuse.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(BytesMut(Filling::Map(map)))
    }

    /// The filled memory, read-only from here on.
    pub fn freeze(self) -> Result<Bytes> {
        let bytes = self.len() as u64;
        let memory = match self.0 {
            Filling::Small(lines, len) => Memory::Small(lines, len),
            Filling::Map(map) => {
                Memory::Map(map.make_read_only().map_err(|_| Error::Memory { bytes, purpose: "write-protecting a buffer" })?)
            }
        };
        Ok(Bytes(Arc::new(Region { memory, file: None, end: 0, scattered: None })))
    }

    fn all_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Filling::Map(map) => map,
            Filling::Small(lines, len) => &mut bytemuck::cast_slice_mut(lines)[..*len],
        }
    }

    /// `range` as mutable values of `T`, in place.
    ///
    /// # Panics
    /// As [`Bytes::view`].
    pub fn view_mut<T: Pod>(&mut self, range: Range<usize>) -> &mut [T] {
        let bytes = &mut self.all_mut()[range];
        if bytes.is_empty() { &mut [] } else { bytemuck::cast_slice_mut(bytes) }
    }
}

impl Deref for BytesMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Filling::Map(map) => map,
            Filling::Small(lines, len) => &bytemuck::cast_slice(lines)[..*len],
        }
    }
}

/// An empty file in `folder` that has no name and that [`link`] can give one; none where the system or the file system
/// has no such files.
#[cfg(target_os = "linux")]
pub(crate) fn unnamed_file(folder: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(folder).ok()?;
    // Linking needs the name under /proc.
    std::fs::metadata(name_by_number(&file)).is_ok().then_some(file)
}

/// Gives an [`unnamed_file`] its first name.
#[cfg(target_os = "linux")]
pub(crate) fn link(file: &File, path: &Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let from = std::ffi::CString::new(name_by_number(file))?;
    let to = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the call reads two strings, which live and end in NUL.
    let done = unsafe { libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(target_os = "linux")]
fn name_by_number(file: &File) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Elsewhere there are none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unnamed_file(_folder: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn link(_file: &File, _path: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_interrupt() -> Result<()> {
        Ok(())
    }

    #[test]
    fn filled_memory_freezes_and_clones_share_it() {
        let mut buffer = BytesMut::zeroed(64 + 12, "a test").unwrap();
        buffer.view_mut::<f32>(64..76).copy_from_slice(&[1.0, 2.0, 3.0]);
        let bytes = buffer.freeze().unwrap();
        let clone = bytes.clone();
        drop(bytes);
        assert_eq!(clone.view::<f32>(64..76), [1.0, 2.0, 3.0]);
        assert_eq!(clone.view::<u64>(0..64), [0; 8]);
        clone.check_len().unwrap();
    }

    #[test]
    fn empty_regions_work_everywhere() {
        let mut buffer = BytesMut::zeroed(0, "a test").unwrap();
        assert!(buffer.view_mut::<f64>(0..0).is_empty());
        let bytes = buffer.freeze().unwrap();
        assert!(bytes.view::<f64>(0..0).is_empty());
        let file = tempfile::NamedTempFile::new().unwrap();
        let mapped = Bytes::map(file.path()).unwrap();
        assert!(mapped.is_empty() && mapped.into_ram(&no_interrupt).unwrap().is_empty());
        let odd = BytesMut::zeroed(3, "a test").unwrap().freeze().unwrap();
        assert!(odd.view::<u64>(3..3).is_empty());
    }

    #[test]
    fn too_much_memory_is_an_error() {
        for len in [usize::MAX, isize::MAX as usize, 1 << 60] {
            let error = BytesMut::zeroed(len, "a test").unwrap_err();
            assert!(matches!(error, Error::Memory { bytes, purpose: "a test" } if bytes == len as u64));
        }
    }

    #[test]
    fn a_shortened_file_is_noticed_and_a_grown_or_removed_one_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7u8; 10_000]).unwrap();
        let mapped = Bytes::map(file.path()).unwrap();
        file.as_file().set_len(20_000).unwrap();
        mapped.check_len().unwrap();
        file.as_file().set_len(9_999).unwrap();
        let error = mapped.check_len().unwrap_err();
        assert!(error.to_string().contains("F16: file length: 10000 bytes when it was opened, 9999 now"), "{error}");
        assert!(matches!(mapped.clone().into_ram(&no_interrupt), Err(Error::Format { .. })));
        file.as_file().set_len(10_000).unwrap();
        file.close().unwrap();
        mapped.check_len().unwrap();
    }

    #[test]
    fn reading_into_memory_copies_and_can_be_interrupted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..READ_BLOCK + 5).map(|i| (i % 251) as u8).collect();
        std::fs::write(file.path(), &content).unwrap();
        let copy = Bytes::map(file.path()).unwrap().into_ram(&no_interrupt).unwrap();
        assert!(copy[..] == content[..] && copy.0.file.is_none());
        let stopped = Bytes::map(file.path()).unwrap().into_ram(&|| Err(Error::Interrupted));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }

    #[test]
    fn scattered_bytes_are_the_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [3u8, 1, 4, 1, 5, 9, 2, 6]).unwrap();
        let mapped = Bytes::map(file.path()).unwrap();
        let copy = mapped.clone().into_ram(&no_interrupt).unwrap();
        for bytes in [mapped, copy] {
            assert_eq!(bytes.scattered(), &bytes[..]);
            assert_eq!(bytes.view_scattered::<u32>(4..8), bytes.view::<u32>(4..8));
        }
    }

    #[test]
    fn mapping_anything_but_a_regular_file_fails() {
        let folder = tempfile::tempdir().unwrap();
        let kind = |path: &Path| match Bytes::map(path) {
            Err(Error::Io { source, .. }) => source.kind(),
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(folder.path()), ErrorKind::IsADirectory);
        assert_eq!(kind(&folder.path().join("missing")), ErrorKind::NotFound);
        #[cfg(unix)]
        assert_eq!(kind(Path::new("/dev/null")), ErrorKind::InvalidInput);
    }
}
