//! A private copy of a package: the file system shares the bytes where it can.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Copies a directory with all in it; links stay links, permissions stay, other kinds of files are left out.
pub(super) fn tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    // Last, so that a directory without write permission can be filled. Its owner may always write, as on a package
    // that is nobody's but this sandbox's.
    let mut permissions = fs::metadata(from)?.permissions();
    permissions.set_mode(permissions.mode() | 0o700);
    fs::set_permissions(to, permissions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_permissions_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/run"), "x").unwrap();
        fs::set_permissions(from.join("sub/run"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("sub/run", from.join("link")).unwrap();
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o555)).unwrap();
        tree(&from, &to).unwrap();
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("sub/run"));
        assert_eq!(
            fs::metadata(to.join("sub/run")).unwrap().permissions().mode() & 0o777,
            0o755
        );
        fs::write(to.join("sub/new"), "writable").unwrap();
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
