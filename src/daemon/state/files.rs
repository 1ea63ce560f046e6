//! Reading whole files and replacing them whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::StateError;
use crate::wire::hex;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The content of a TOML file; `None` when there is none.
pub(super) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&text).map_err(|error| StateError::damaged(path, &error))?;
    match toml::from_str(text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(StateError::damaged(path, &error.to_string().trim_end())),
    }
}

/// Replaces a TOML file; `about` is the comment at its top.
pub(super) fn write_toml<T: Serialize>(
    path: &Path,
    about: &str,
    value: &T,
) -> Result<(), StateError> {
    let body = toml::to_string(value)
        .map_err(|error| StateError::Rule(format!("cannot store {}: {error}", path.display())))?;
    replace(path, format!("# {about}\n{body}").as_bytes())
}

/// A secret of 32 bytes from its own file; `None` when there is none.
pub(super) fn read_secret(path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, StateError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    check_private(path)?;
    let mut secret = Zeroizing::new([0; 32]);
    let whole = std::str::from_utf8(&text)
        .is_ok_and(|text| hex::decode_into(text.trim_end(), secret.as_mut()));
    if whole {
        Ok(Some(secret))
    } else {
        Err(StateError::damaged(path, &"a key is 64 hexadecimal digits"))
    }
}

/// Writes a secret of 32 bytes to its own file.
pub(super) fn write_secret(path: &Path, secret: &[u8; 32]) -> Result<(), StateError> {
    // Room from the start: a growing text would leave copies of the key in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(2 * secret.len() + 1));
    hex::encode_into(secret, &mut text);
    text.push('\n');
    replace(path, text.as_bytes())
}

/// Refuses what its group or everybody may read.
pub(super) fn check_private(path: &Path) -> Result<(), StateError> {
    let metadata = fs::metadata(path).map_err(StateError::io("look at", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(StateError::Exposed { path, mode });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StateError::io("read", path)(error)),
    };
    // Room for a key from the start, as in `write_secret`.
    let mut content = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_FILE + 1)
        .read_to_end(&mut content)
        .map_err(StateError::io("read", path))?;
    if u64::try_from(content.len()).is_ok_and(|len| len > MAX_FILE) {
        return Err(StateError::damaged(path, &"it is larger than 4 MiB"));
    }
    Ok(Some(content))
}

/// Afterwards either the old content is there or the new, whatever happens in between.
fn replace(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StateError::Rule(format!(
            "{} is no file name",
            path.display()
        )));
    };
    let mut aside = name.to_owned();
    aside.push(".new");
    let aside = dir.join(aside);
    let io = || StateError::io("write", &aside);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .map_err(io())?;
    file.write_all(content).map_err(io())?;
    file.sync_all().map_err(io())?;
    fs::rename(&aside, path).map_err(StateError::io("replace", path))?;
    let sync = File::open(dir).and_then(|dir| dir.sync_all());
    sync.map_err(StateError::io("sync", dir))
}
