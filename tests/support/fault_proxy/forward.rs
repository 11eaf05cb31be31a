//! One request: forwarding it, with damage on the way.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Shared;
use super::answers::Answer;
use super::rules::Fault;
use super::seen::Request;
use crate::support::http::{Body, Head};

type Client = BufReader<TcpStream>;

/// What is done to a body.
#[derive(Clone, Copy, Debug, Default)]
struct Damage {
    flip: Option<u64>,
    stall: Option<u64>,
    cut: Option<u64>,
    /// Bytes a second.
    rate: Option<u64>,
}

/// Whether the client may send another request on its connection.
enum Then {
    KeepAlive,
    Close,
    Reset,
}

/// Serves one connection of a client, request by request.
pub(super) async fn connection(client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    while let Some(head) = Head::read(&mut client).await? {
        match request(&mut client, &head, shared).await? {
            Then::KeepAlive => {}
            Then::Close => return client.shutdown().await,
            Then::Reset => return client.get_ref().set_zero_linger(),
        }
    }
    Ok(())
}

fn fault_for(head: &Head, shared: &Shared) -> Option<Fault> {
    let fault = {
        let mut rules = shared.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter_mut().find_map(|rule| rule.apply(head))
    };
    let authorization = head.field("authorization").unwrap_or_default().to_owned();
    let (method, target) = (head.method().to_owned(), head.target().to_owned());
    shared.seen.request(Request { method, target, authorization, hit: fault.is_some() });
    fault
}

async fn request(client: &mut Client, head: &Head, shared: &Shared) -> io::Result<Then> {
    let fault = fault_for(head, shared);
    let (mut up, mut down) = (Damage::default(), Damage::default());
    match fault {
        Some(Fault::ResetBefore) => return Ok(Then::Reset),
        Some(Fault::Answer(answer)) => return refuse(client, head, &answer, shared).await,
        Some(Fault::Slow(rate)) => (up.rate, down.rate) = (Some(rate), Some(rate)),
        Some(Fault::StallRequest(at)) => up.stall = Some(at),
        Some(Fault::FlipRequest(at)) => up.flip = Some(at),
        Some(Fault::StallResponse(at)) => down.stall = Some(at),
        Some(Fault::FlipResponse(at)) => down.flip = Some(at),
        Some(Fault::Truncate(at)) => down.cut = Some(at),
        Some(Fault::AnswerAfter(_) | Fault::ResetAfter) | None => {}
    }
    // Until the server's answer begins: by then it has done what it was asked for.
    let turn = shared.at_a_time.acquire().await.map_err(io::Error::other)?;
    // One connection for each request: there is none then that the server may have closed
    // meanwhile.
    let mut server = BufReader::new(TcpStream::connect(&shared.upstream).await?);
    server.get_ref().set_nodelay(true)?;
    server.write_all(&head.raw).await?;
    expect_body(client, head).await?;
    pass(client, &mut server, head.request_body(), up, |bytes| shared.seen.up(bytes)).await?;
    let answer = answer_of(&mut server).await?;
    drop(turn);
    let body = answer.response_body(head.method());
    match fault {
        Some(Fault::ResetAfter) => return Ok(Then::Reset),
        Some(Fault::AnswerAfter(instead)) => {
            client.write_all(&instead.to_bytes(head.method())).await?;
            return Ok(Then::KeepAlive);
        }
        _ => {}
    }
    client.write_all(&answer.raw).await?;
    let whole = pass(&mut server, client, body, down, |bytes| shared.seen.down(bytes)).await?;
    let ends =
        !whole || matches!(body, Body::UntilClosed) || wants_close(head) || wants_close(&answer);
    Ok(if ends { Then::Close } else { Then::KeepAlive })
}

fn wants_close(head: &Head) -> bool {
    head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// Reads a request to its end, so that the client sees the answer, and answers it.
async fn refuse(
    client: &mut Client,
    head: &Head,
    answer: &Answer,
    shared: &Shared,
) -> io::Result<Then> {
    expect_body(client, head).await?;
    let body = head.request_body();
    pass(client, &mut tokio::io::sink(), body, Damage::default(), |bytes| shared.seen.up(bytes))
        .await?;
    client.write_all(&answer.to_bytes(head.method())).await?;
    Ok(Then::KeepAlive)
}

/// Some clients send a large body only when they are told to go on.
async fn expect_body(client: &mut Client, head: &Head) -> io::Result<()> {
    match head.field("expect") {
        Some(_) => client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await,
        None => Ok(()),
    }
}

/// The answer proper, not what says that there will be one.
async fn answer_of(server: &mut Client) -> io::Result<Head> {
    loop {
        let head = Head::read(server).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.status() >= 200 {
            return Ok(head);
        }
    }
}

/// Passes a body on; returns whether all of it.
async fn pass(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut body: Body,
    damage: Damage,
    seen: impl Fn(usize),
) -> io::Result<bool> {
    let (wire, started, mut at) = (body, Instant::now(), 0);
    if damage.stall == Some(0) {
        std::future::pending::<()>().await;
    }
    while let Some(mut piece) = body.next(from).await? {
        let end = at + piece.len() as u64;
        let within = |offset: Option<u64>| {
            offset.filter(|offset| (at..end).contains(offset)).map(|offset| offset - at)
        };
        if let Some(offset) = within(damage.flip) {
            piece[usize::try_from(offset).unwrap()] ^= 1;
        }
        let stop = within(damage.cut).or(within(damage.stall));
        piece.truncate(stop.map_or(piece.len(), |offset| usize::try_from(offset).unwrap()));
        // In small pieces, so that a slow link is slow throughout.
        let step =
            damage.rate.map_or(piece.len(), |rate| usize::try_from((rate / 20).max(1)).unwrap());
        for part in piece.chunks(step.max(1)) {
            at += part.len() as u64;
            if let Some(rate) = damage.rate {
                tokio::time::sleep_until(started + Duration::from_millis(1000 * at / rate)).await;
            }
            to.write_all(&wire.encode(part)).await?;
            seen(part.len());
        }
        if stop.is_some() {
            to.flush().await?;
            if damage.stall.is_some() {
                std::future::pending::<()>().await;
            }
            return Ok(false);
        }
    }
    to.write_all(wire.end()).await?;
    to.flush().await?;
    Ok(true)
}
