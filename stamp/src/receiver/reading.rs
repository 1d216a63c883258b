//! Reads from connections into memory that those of one thread share, so that a silent one holds none.
//!
//! What was read is handed on before anything else runs, and nothing of it stays here.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Waits for bytes and hands them to `take`; how many there were, 0 at the end of the stream. May be dropped while it waits:
/// nothing is lost then.
pub(super) async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    mut take: impl FnMut(&[u8]),
) -> io::Result<usize> {
    poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut buffer))?;
            take(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn readers_of_one_thread_get_each_their_own_bytes() {
        let ((mut a, mut to_a), (mut b, mut to_b)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
        to_a.write_all(&vec![1; 3 * READ_BYTES / 2]).await.unwrap();
        to_b.write_all(&[2; 10]).await.unwrap();
        drop((to_a, to_b));
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        loop {
            let (from_a, from_b) = tokio::join!(
                read(&mut a, |bytes| of_a.extend_from_slice(bytes)),
                read(&mut b, |bytes| of_b.extend_from_slice(bytes))
            );
            if from_a.unwrap() + from_b.unwrap() == 0 {
                break;
            }
        }
        assert_eq!(of_a, vec![1; 3 * READ_BYTES / 2]);
        assert_eq!(of_b, [2; 10]);
    }
}
