//! A stream that writes what was gathered when its reader comes to wait, instead of at each flush.
//!
//! The library flushes after each acknowledgement: a system call and a packet per message. It reads again only when it
//! has nothing more to send, so that is the moment to write. Bounded: at [`GATHERED`] bytes the writer waits as ever.
//! When nobody will read any more (the goodbye), [`Cork::pull`] makes each flush count again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered at most.
const GATHERED: usize = 32 << 10;

/// Whether streams gather what they write. Shared by all connections of a subscription.
#[derive(Clone, Default)]
pub(super) struct Cork(Arc<AtomicBool>);

impl Cork {
    /// From now on each flush writes.
    pub(super) fn pull(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_pulled(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A stream whose writes are gathered.
pub(super) struct Corked<S> {
    stream: S,
    cork: Cork,
    gathered: Vec<u8>,
    /// How much of it is written.
    written: usize,
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    pub(super) fn new(stream: S, cork: Cork) -> Self {
        Self { stream, cork, gathered: Vec::new(), written: 0 }
    }

    /// Writes all that was gathered.
    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.gathered.clear();
        self.written = 0;
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Whatever cannot be written now is tried again when the stream takes more: the task is woken for either.
        if let Poll::Ready(Err(error)) = this.poll_write_out(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.gathered.len() >= GATHERED {
            ready!(this.poll_write_out(context))?;
        }
        let count = bytes.len().min(GATHERED);
        this.gathered.extend(bytes.iter().take(count));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cork.is_pulled() { this.poll_write_out(context) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_goes_out_when_the_reader_comes_to_wait() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let cork = Cork::default();
        let mut corked = Corked::new(ours, cork.clone());
        for _ in 0..100 {
            corked.write_all(b"ack!").await.unwrap();
            corked.flush().await.unwrap();
        }
        let mut seen = [0; 400];
        let nothing = std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut theirs).poll_read(context, &mut ReadBuf::new(&mut seen)).is_pending())
        });
        assert!(nothing.await);
        theirs.write_all(b"x").await.unwrap();
        corked.read_exact(&mut [0]).await.unwrap();
        theirs.read_exact(&mut seen).await.unwrap();

        cork.pull();
        corked.write_all(b"bye").await.unwrap();
        corked.flush().await.unwrap();
        theirs.read_exact(&mut [0; 3]).await.unwrap();
    }

    #[tokio::test]
    async fn more_than_may_be_gathered_is_written_without_a_reader() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let mut corked = Corked::new(ours, Cork::default());
        let sent: Vec<u8> = (0..200_000_u32).map(|byte| byte as u8).collect();
        let expected = sent.len() / GATHERED * GATHERED;
        let reading = async {
            let mut seen = vec![0; expected];
            theirs.read_exact(&mut seen).await.unwrap();
            seen
        };
        let (written, seen) = tokio::join!(corked.write_all(&sent), reading);
        written.unwrap();
        assert_eq!(seen, sent[..expected]);
    }
}
