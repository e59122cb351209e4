//! Serial ports and sockets.

use super::url::Place;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

/// How long a read waits: a run that is stopped looks so often.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

/// How long a write may wait on a board that takes nothing.
const STUCK: Duration = Duration::from_secs(2);

/// Bytes to and from a board. A read that finds nothing for some 20 ms fails with
/// [`io::ErrorKind::TimedOut`] or [`io::ErrorKind::WouldBlock`]; 0 bytes mean that the other side
/// is gone.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Waits for a board.
pub trait Connect: Send {
    /// A stream if there is one within some 20 ms.
    ///
    /// # Errors
    /// Where there is none and the system says why; worth another try.
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>>;
}

/// A serial port.
pub(super) struct Serial {
    pub(super) path: String,
    pub(super) baud: u32,
}

#[cfg(all(feature = "serial", not(unix)))]
fn open_serial(path: &str, baud: u32) -> io::Result<Box<dyn Stream>> {
    let port = serialport::new(path, baud).timeout(PATIENCE);
    Ok(Box::new(port.open().map_err(io::Error::from)?))
}

/// A serial port whose writes go through a handle of their own: those of `serialport` wait until
/// the other side has taken everything, for as long as that takes, and so does its `flush`.
#[cfg(all(feature = "serial", unix))]
struct Tty {
    port: Box<dyn serialport::SerialPort>,
    writer: std::fs::File,
}

#[cfg(all(feature = "serial", unix))]
fn open_serial(path: &str, baud: u32) -> io::Result<Box<dyn Stream>> {
    use std::os::unix::fs::OpenOptionsExt;
    // First: once `serialport` has it, nobody else may open it.
    let writer = std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let port = serialport::new(path, baud).timeout(PATIENCE);
    let port = port.open().map_err(io::Error::from)?;
    Ok(Box::new(Tty { port, writer }))
}

#[cfg(all(feature = "serial", unix))]
impl Read for Tty {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.port.read(out)
    }
}

#[cfg(all(feature = "serial", unix))]
impl Write for Tty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begun = std::time::Instant::now();
        loop {
            match self.writer.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
            if begun.elapsed() >= STUCK {
                let reason = "the other side takes nothing";
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(feature = "serial"))]
fn open_serial(_path: &str, _baud: u32) -> io::Result<Box<dyn Stream>> {
    let reason = "serial ports need a build with the feature `serial`";
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}

impl Connect for Serial {
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        open_serial(&self.path, self.baud).map(Some)
    }
}

/// A socket that is listened on.
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(Unix),
}

/// Who has connected.
pub(super) enum Caller {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Listener {
    pub(super) fn tcp(address: SocketAddr) -> io::Result<Listener> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(listener))
    }

    #[cfg(unix)]
    pub(super) fn unix(path: &Path) -> io::Result<Listener> {
        Unix::listen(path).map(Listener::Unix)
    }

    #[cfg(not(unix))]
    pub(super) fn unix(_path: &Path) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The port that the system chose, where it did.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Listener::Unix(_) => None,
        }
    }

    /// Who has connected, and from where; an error that [`is_timeout`] knows where nobody has.
    pub(super) fn accept(&self) -> io::Result<(Caller, Option<SocketAddr>)> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, from) = listener.accept()?;
                (Caller::Tcp(stream), Some(from))
            }
            #[cfg(unix)]
            Listener::Unix(unix) => (Caller::Unix(unix.listener.accept()?.0), None),
        })
    }
}

impl Caller {
    /// The connection as a stream whose reads do not wait until [`Caller::wait_when_read`].
    pub(super) fn stream(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Caller::Tcp(stream) => {
                prepare(stream)?;
                stream.set_nonblocking(true)?;
                Box::new(stream.try_clone()?)
            }
            #[cfg(unix)]
            Caller::Unix(stream) => {
                prepare_unix(stream)?;
                stream.set_nonblocking(true)?;
                Box::new(stream.try_clone()?)
            }
        })
    }

    /// From now on its reads wait a moment, those of the stream that it gave too.
    pub(super) fn wait_when_read(&self) -> io::Result<()> {
        match self {
            Caller::Tcp(stream) => stream.set_nonblocking(false),
            #[cfg(unix)]
            Caller::Unix(stream) => stream.set_nonblocking(false),
        }
    }
}

/// A TCP stream with the timeouts of a [`Stream`], each write sent at once.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(STUCK))
}

/// A socket file, removed at the end.
#[cfg(unix)]
pub(super) struct Unix {
    listener: UnixListener,
    path: PathBuf,
    /// Its number in the file system.
    inode: u64,
}

#[cfg(unix)]
impl Unix {
    fn listen(path: &Path) -> io::Result<Unix> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                let reason = "it exists and is no socket; it is left alone";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
            }
            // One that a killed run left behind is replaced; one that somebody listens on is not.
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            _ => {}
        }
        // Under another name until it is its owner's alone, so that nobody connects before.
        let mut own = path.as_os_str().to_owned();
        own.push(".new");
        let own = PathBuf::from(own);
        if std::fs::symlink_metadata(&own).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(&own)?;
        }
        let listener = UnixListener::bind(&own)?;
        let ready = listener.set_nonblocking(true).and_then(|()| {
            std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600))?;
            let inode = std::fs::symlink_metadata(&own)?.ino();
            std::fs::rename(&own, path)?;
            Ok(inode)
        });
        let inode = ready.inspect_err(|_| drop(std::fs::remove_file(&own)))?;
        let path = path.to_owned();
        Ok(Unix {
            listener,
            path,
            inode,
        })
    }
}

#[cfg(unix)]
impl Drop for Unix {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt;
        // Somebody else may have removed it, or put another in its place.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn prepare_unix(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(STUCK))
}

/// Opens the other end of a link: where [`Connect`] listens, this one calls.
pub(super) fn call(place: &Place) -> io::Result<Box<dyn Stream>> {
    Ok(match place {
        Place::Serial { path, baud } => open_serial(path, *baud)?,
        Place::Tcp { address } => {
            let stream = TcpStream::connect(address)?;
            prepare(&stream)?;
            Box::new(stream)
        }
        #[cfg(unix)]
        Place::Unix { path } => {
            let stream = UnixStream::connect(path)?;
            prepare_unix(&stream)?;
            Box::new(stream)
        }
        #[cfg(not(unix))]
        Place::Unix { .. } => return Err(io::ErrorKind::Unsupported.into()),
    })
}

/// A read that timed out.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(all(test, feature = "serial", unix))]
mod tests {
    use super::*;
    use serialport::{SerialPort, TTYPort};
    use std::time::Instant;

    #[test]
    fn a_serial_port_that_takes_nothing_is_given_up() {
        let (mut other, end) = TTYPort::pair().unwrap();
        let path = end.name().unwrap();
        drop(end);
        let opened = open_serial(&path, 921_600);
        if let Err(error) = &opened
            && cfg!(target_arch = "aarch64")
            && error.to_string().contains("Function not implemented")
        {
            println!("skipped: the emulator of this processor has no serial ports ({error})");
            return;
        }
        let mut stream = opened.unwrap();
        stream.write_all(b"there").unwrap();
        stream.flush().unwrap();
        let mut bytes = [0; 5];
        other.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"there");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let begun = Instant::now();
            let written = stream.write_all(&[7; 1 << 20]);
            sender.send((written.is_err(), begun.elapsed())).unwrap();
        });
        let (failed, took) = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(failed && took < Duration::from_secs(10), "{took:?}");
        drop(other);
    }
}
