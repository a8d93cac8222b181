//! Files without a name: what is written to one is gone with the process, until the file is linked.

use std::fs::File;
use std::path::Path;

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
