//! A file replaced whole or not at all: a new one beside it, synced, renamed over it.
//!
//! Until the rename the old file is untouched, and any failure removes the new one. A map of the old file stays valid,
//! because a rename leaves its inode alone. Where the system has files without a name the new one is such a file until
//! it is whole, so that a process that is killed leaves nothing. Elsewhere, and from its naming to the rename, it is a
//! hidden sibling of the target that its writer keeps locked. The lock goes with the writer, however that ends, and every
//! replacement begins by removing the siblings in its folder that nobody holds. A lock tells what a process number cannot:
//! numbers are given anew, and mean nothing in another container or on another host. Where there are no locks, siblings stay.
//! File names, their locks and fsync live here only.

use crate::error::{Error, Result};
use crate::store::{link, regular_file, unnamed_file};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often, and after which pause, a lock is tried again.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// How the name of every sibling begins and ends.
const SIBLING: (&str, &str) = (".nseekfs-", ".tmp");

/// A new file, removed when dropped unless it has become the target.
pub(super) struct Replacement<'a> {
    file: File,
    /// Its name; none while it has none, and once it is the target.
    sibling: Option<PathBuf>,
    /// What will be replaced: `named`, links followed.
    target: PathBuf,
    /// The target as the user named it, for errors.
    named: &'a Path,
}

impl<'a> Replacement<'a> {
    /// An empty file that is to replace `path`, with the permissions of the one that is there.
    ///
    /// # Errors
    /// [`Error::Busy`] where a writer holds that file; [`Error::Io`].
    pub fn create(path: &'a Path) -> Result<Self> {
        if let Ok(old) = File::open(path) {
            waited(&old, path, File::try_lock_shared)?;
        }
        Self::of_own(path)
    }

    /// The same for a file that the caller itself may hold as its writer.
    pub fn of_own(path: &'a Path) -> Result<Self> {
        Self::with(path, unnamed_file)
    }

    /// The same with a way to open files without a name.
    fn with(path: &'a Path, unnamed: impl Fn(&Path) -> Option<File>) -> Result<Self> {
        let (target, permissions) = match regular_file(path) {
            Ok(old) => (fs::canonicalize(path).map_err(|e| Error::io(path, e))?, Some(old.permissions())),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => (path.to_owned(), None),
            Err(error) => return Err(error),
        };
        let folder = folder_of(&target);
        remove_abandoned(&folder);
        let (file, sibling) = match unnamed(&folder) {
            Some(file) => {
                // Where locks fail nobody removes what is not locked.
                let _ = file.try_lock();
                (file, None)
            }
            None => new_sibling(&target).map(|(file, path)| (file, Some(path))).map_err(|e| Error::io(path, e))?,
        };
        let new = Replacement { file, sibling, target, named: path };
        // Before any content, so that a private file is never readable by others.
        permissions.map_or(Ok(()), |permissions| new.file.set_permissions(permissions)).map_err(|e| new.error(e))?;
        Ok(new)
    }

    /// Appends to the file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.error(e))
    }

    /// Puts the file in place of the target, and returns it: locked, where files can be.
    pub fn replace_target(mut self) -> Result<File> {
        self.file.sync_all().map_err(|e| self.error(e))?;
        let folder = Folder::of(&self.target)?;
        self.give_name().map_err(|e| self.error(e))?;
        if let Some(sibling) = &self.sibling {
            fs::rename(sibling, &self.target).map_err(|e| self.error(e))?;
        }
        self.sibling = None;
        folder.sync()?;
        self.file.try_clone().map_err(|e| self.error(e))
    }

    /// Makes a file without a name a sibling: linking replaces nothing, renaming does.
    fn give_name(&mut self) -> io::Result<()> {
        while self.sibling.is_none() {
            let path = sibling_path(&self.target);
            match link(&self.file, &path) {
                Ok(()) => self.sibling = Some(path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(_) => self.copy_to_sibling()?,
            }
        }
        Ok(())
    }

    /// Some file systems have files without a name and cannot link them.
    fn copy_to_sibling(&mut self) -> io::Result<()> {
        let permissions: Permissions = self.file.metadata()?.permissions();
        let (mut copy, path) = new_sibling(&self.target)?;
        self.sibling = Some(path);
        copy.set_permissions(permissions)?;
        self.file.rewind()?;
        io::copy(&mut self.file, &mut copy)?;
        copy.sync_all()?;
        self.file = copy;
        Ok(())
    }

    fn error(&self, source: io::Error) -> Error {
        Error::io(self.named, source)
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        if let Some(sibling) = &self.sibling {
            // Nothing better can be done if this fails too; the first failure is the one reported.
            let _ = fs::remove_file(sibling);
        }
    }
}

/// A name beside `target` that no other call of this process has got.
fn sibling_path(target: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let (start, end) = SIBLING;
    target.with_file_name(format!("{start}{}-{}{end}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)))
}

/// A new file beside `target`, locked where files can be.
fn new_sibling(target: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let path = sibling_path(target);
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            // A process of this number, of another host or of the past.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        // Between the two calls another replacement may have taken the file for abandoned.
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            _ if removed(&file) => {}
            _ => return Ok((file, path)),
        }
    }
}

/// Locks a file for its only writer.
///
/// # Errors
/// [`Error::Busy`] where another holds it. Where files cannot be locked, none is refused.
pub(super) fn lock(file: &File, path: &Path) -> Result<()> {
    waited(file, path, File::try_lock)
}

/// Takes a lock, after a moment if need be: who has just put a file in place still holds it until it is closed.
fn waited(file: &File, path: &Path, lock: impl Fn(&File) -> std::result::Result<(), TryLockError>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        match lock(file) {
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            _ => return Ok(()),
        }
    }
    Err(Error::Busy { path: path.to_owned(), holder: holder(file) })
}

/// The process that holds the lock of a file, where the system tells.
fn holder(file: &File) -> Option<u32> {
    let inode = inode(file)?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // "1: FLOCK ADVISORY WRITE 4711 fe:00:131 0 EOF": the inode follows the device.
    let mut held = locks.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let own = fields.get(1) == Some(&"FLOCK") && fields.get(5)?.rsplit(':').next()?.parse() == Ok(inode);
        fields.get(4).filter(|_| own)?.parse().ok()
    });
    held.rfind(|&process: &u32| process > 0)
}

#[cfg(unix)]
fn inode(file: &File) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().ok().map(|found| found.ino())
}

#[cfg(not(unix))]
fn inode(_file: &File) -> Option<u64> {
    None
}

#[cfg(unix)]
fn removed(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|found| found.nlink() == 0)
}

#[cfg(not(unix))]
fn removed(_file: &File) -> bool {
    false
}

/// Removes the siblings that killed processes have left in `folder`; what cannot be removed stays.
pub(super) fn remove_abandoned(folder: &Path) {
    let ours = |name: &str| name.starts_with(SIBLING.0) && name.ends_with(SIBLING.1);
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // Opening a pipe would wait for its other end.
        if !entry.file_name().to_str().is_some_and(ours) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        // Some file systems lock only what can be written.
        let opened = OpenOptions::new().write(true).open(&path).or_else(|_| File::open(&path));
        if opened.is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(&path);
        }
    }
}

pub(super) fn folder_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The folder of the target, opened before the rename so that failing to open it changes nothing.
#[cfg(unix)]
struct Folder {
    handle: File,
    path: PathBuf,
}

#[cfg(unix)]
impl Folder {
    fn of(target: &Path) -> Result<Self> {
        let path = folder_of(target);
        let handle = File::open(&path).map_err(|e| Error::io(&path, e))?;
        Ok(Folder { handle, path })
    }

    fn sync(self) -> Result<()> {
        match self.handle.sync_all() {
            // Some network and user-space file systems cannot sync a folder.
            Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Err(Error::io(self.path, error)),
            _ => Ok(()),
        }
    }
}

/// Elsewhere a folder cannot be opened as a file, and the rename itself is durable enough.
#[cfg(not(unix))]
struct Folder;

#[cfg(not(unix))]
impl Folder {
    fn of(_target: &Path) -> Result<Self> {
        Ok(Folder)
    }

    fn sync(self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn siblings(folder: &Path) -> usize {
        names(folder).iter().filter(|name| name.starts_with(SIBLING.0)).count()
    }

    /// A system without files that have no name.
    fn without(_: &Path) -> Option<File> {
        None
    }

    /// A file of another file system, which cannot be linked here.
    fn elsewhere(_: &Path) -> Option<File> {
        Some(tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap())
    }

    #[test]
    fn every_way_puts_the_file_in_place_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.bin");
        for (text, unnamed) in [("a", unnamed_file as fn(&Path) -> Option<File>), ("b", without), ("c", elsewhere)] {
            for give_up in [true, false] {
                let mut new = Replacement::with(&path, unnamed).unwrap();
                new.write(text.as_bytes()).unwrap();
                if !give_up {
                    new.replace_target().unwrap();
                    assert_eq!(fs::read_to_string(&path).unwrap(), text);
                }
            }
            assert_eq!(names(folder.path()), ["index.bin"]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_without_a_name_is_not_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.bin");
        let mut new = Replacement::create(&path).unwrap();
        new.write(b"x").unwrap();
        assert_eq!(siblings(folder.path()), usize::from(unnamed_file(folder.path()).is_none()));
    }

    #[test]
    fn siblings_of_killed_processes_are_removed_and_those_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("index.bin"), folder.path().join("other.bin"));
        for name in [".nseekfs-1-0.tmp", ".nseekfs-4194304-7.tmp", ".nseekfs-notes", "nseekfs-1-0.tmp"] {
            fs::write(folder.path().join(name), "left").unwrap();
        }
        fs::create_dir(folder.path().join(".nseekfs-folder.tmp")).unwrap();
        let mut used = Replacement::with(&path, without).unwrap();
        assert_eq!(siblings(folder.path()), 3, "{:?}", names(folder.path()));
        used.write(b"used").unwrap();
        Replacement::create(&other).unwrap().replace_target().unwrap();
        assert_eq!(siblings(folder.path()), 3);
        used.replace_target().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "used");
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, [".nseekfs-folder.tmp", ".nseekfs-notes", "index.bin", "nseekfs-1-0.tmp", "other.bin"]);
    }
}
