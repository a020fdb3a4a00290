//! The secret that `tidings` keeps beside its database, so that it starts without settings
//! and its tokens outlive a restart.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;

use super::layers::read_secret;

const SECRET_BYTES: usize = 32;

/// The secret beside the database could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("cannot use the secret file {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the secret file {} is too short; restore it, or delete it to end all sessions", path.display())]
    TooShort { path: PathBuf },
}

/// Reads the secret kept beside `database` (`<database>.secret`), or makes it: 32 random
/// bytes in a file that only its owner may read, on disk before this returns. Two processes
/// that start at once get the same one.
///
/// # Errors
///
/// If the file cannot be read or made, or holds less than a secret.
pub fn secret_beside(database: &Path) -> Result<SecretString, SecretFileError> {
    let mut name = database.as_os_str().to_owned();
    name.push(".secret");
    let path = PathBuf::from(name);
    let failed = |source| SecretFileError::Io {
        path: path.clone(),
        source,
    };
    if !path.try_exists().map_err(failed)? {
        create(&path).map_err(failed)?;
    }
    let secret = read_secret(&path).map_err(failed)?;
    if secret.len() < SECRET_BYTES {
        return Err(SecretFileError::TooShort { path });
    }
    Ok(SecretString::from(secret))
}

/// Writes a temporary file and links it to its name: the name never shows half a secret, and
/// a link, unlike a rename, does not replace what another process has put there meanwhile.
fn create(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(directory)?;
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let temporary = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4()));
    let result = write_new(&temporary, URL_SAFE_NO_PAD.encode(random).as_bytes())
        .and_then(|()| std::fs::hard_link(&temporary, path));
    std::fs::remove_file(&temporary)?;
    match result {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => File::open(directory)?.sync_all(),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // The mode above is subject to the umask only downwards, but ACL defaults may add to it.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::{SecretFileError, secret_beside};

    #[test]
    fn the_secret_beside_the_database_is_made_once_and_only_its_owners() {
        let directory = std::env::temp_dir().join(format!("tidings-{}", uuid::Uuid::new_v4()));
        let database = directory.join("tidings.db");
        let first = secret_beside(&database).unwrap();
        let second = secret_beside(&database).unwrap();
        assert!(first.expose_secret().len() >= 32);
        assert_eq!(first.expose_secret(), second.expose_secret());

        let path = directory.join("tidings.db.secret");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);

        std::fs::write(&path, "short").unwrap();
        let error = secret_beside(&database).unwrap_err();
        assert!(matches!(error, SecretFileError::TooShort { .. }));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
