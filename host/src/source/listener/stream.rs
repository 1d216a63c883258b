//! The two kinds of sockets of a connection. A plain one is split, so that acknowledgements can be sent without waking
//! the connection's task; a TLS one is not, since encryption needs both halves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio_rustls::server::TlsStream;

use super::state::Slot;

/// A connection's socket.
pub(crate) enum Stream {
    /// Its sending side is in the connection's [`Slot`].
    Plain(OwnedReadHalf),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Reads some bytes; 0 at the end.
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        match self {
            Self::Plain(half) => ready!(Pin::new(half).poll_read(cx, &mut buffer))?,
            Self::Tls(stream) => ready!(Pin::new(stream.as_mut()).poll_read(cx, &mut buffer))?,
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Sends all of the slot's `out`; returns how many bytes went.
    pub(crate) fn poll_write_out(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Slot,
    ) -> Poll<io::Result<usize>> {
        let mut sent = 0;
        while sent < slot.out.len() {
            let rest = slot.out.get(sent..).unwrap_or_default();
            let written = match (&mut *self, &mut slot.writer) {
                (Self::Plain(_), Some(writer)) => Pin::new(writer).poll_write(cx, rest),
                (Self::Tls(stream), _) => Pin::new(stream.as_mut()).poll_write(cx, rest),
                (Self::Plain(_), None) => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(more)) => sent += more,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    slot.out.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        slot.out.clear();
        if let Self::Tls(stream) = self {
            ready!(Pin::new(stream.as_mut()).poll_flush(cx))?;
        }
        Poll::Ready(Ok(sent))
    }

    /// Ends the sending side.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>, slot: &mut Slot) -> Poll<io::Result<()>> {
        match (self, &mut slot.writer) {
            (Self::Plain(_), Some(writer)) => Pin::new(writer).poll_shutdown(cx),
            (Self::Plain(_), None) => Poll::Ready(Ok(())),
            (Self::Tls(stream), _) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
