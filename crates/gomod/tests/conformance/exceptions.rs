//! Where modgate differs from `golang.org/x/mod` on purpose.

/// One rule that is stricter here. Each test names those it expects, and fails if one of them is not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exception {
    /// A malformed pattern of GOPRIVATE is an error when it is read. Go lets it match nothing, so that a typing
    /// mistake sends private names to the public.
    MalformedPattern,
    /// Spaces around a pattern do not count: nobody means them, and with them it would match nothing.
    SpacedPattern,
    /// A pseudo-version after something that is no version is refused. Go silently makes one without a base.
    PseudoOfNoVersion,
    /// A pseudo-version of a revision, major version or time that makes none is refused. Go joins the parts.
    PseudoOfBadParts,
    /// Build metadata of the base is dropped, as the go command does before it calls the reference: with it the
    /// version would not be canonical.
    PseudoWithMetadata,
    /// Bytes before the first entry or between the directory and its end: two readers could see two archives.
    ZipGap,
    /// A count of entries that is wrong, or right only modulo 65536, or junk in the directory's room.
    ZipCount,
    /// Announced as one of several parts, which nothing writes.
    ZipParts,
    /// The flag for encryption, which Go does not look at.
    ZipEncrypted,
    /// A CRC of 0 in the directory over content that has another: Go then does not compare.
    ZipZeroCrc,
    /// A folder compressed in an unknown way: Go does not read folders.
    ZipFolderMethod,
    /// Entries that together announce more compressed bytes than the file has: they overlap, and a small file could cost
    /// reading without end. Go reads an entry up to its own end, wherever it is said to be.
    ZipOverlap,
    /// A `go.mod` over 16 MiB, or of more words and lines than any has: they cost memory.
    GoModTooMuch,
    /// Paths over 4096 bytes, which no client could unpack: they cost memory.
    LongName,
}
