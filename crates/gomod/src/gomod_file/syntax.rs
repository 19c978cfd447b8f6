//! The syntax of `go.mod`: words, lines, blocks, and which comment belongs to what.

use super::GoModError;
use crate::unicode::is_printable;

/// Words, lines and comments that a file may have together, to bound memory: far more than any has.
const MAX_TOKENS: usize = 200_000;

/// The comments of a line or a block, each with its `//`.
#[derive(Debug, Default)]
pub(super) struct Comments<'a> {
    /// Whole-line comments directly above; an empty one stands for blank lines in a block.
    pub(super) before: Vec<&'a str>,
    /// Comments behind it on its line.
    pub(super) suffix: Vec<&'a str>,
}

/// A line's words, in a block or alone.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Its number, from 1.
    pub(super) number: usize,
    /// At least one; quotes are still on.
    pub(super) words: Vec<&'a str>,
    pub(super) comments: Comments<'a>,
}

/// A line alone, or a head and the lines of its block.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    pub(super) head: Line<'a>,
    pub(super) block: Option<Vec<Line<'a>>>,
}

/// Reads a whole file.
pub(super) fn parse(text: &str) -> Result<Vec<Statement<'_>>, GoModError> {
    let mut parser = Parser {
        lexer: Lexer::new(text)?,
        statements: Vec::new(),
        anchors: Vec::new(),
    };
    parser.file()?;
    Ok(parser.finish())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    End,
    Newline,
    /// A comment alone on its line.
    Comment,
    /// A comment behind something, with its newline.
    LineComment,
    Word,
    Open,
    Close,
}

impl Kind {
    fn ends_line(self) -> bool {
        matches!(self, Self::End | Self::Newline | Self::LineComment)
    }
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
    end: usize,
    line: usize,
    end_line: usize,
}

/// Holds the next token and the place behind it.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    next: Token<'a>,
    tokens: usize,
    line_comments: Vec<(usize, &'a str)>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Result<Self, GoModError> {
        let nothing = Token {
            kind: Kind::End,
            text: "",
            start: 0,
            end: 0,
            line: 1,
            end_line: 1,
        };
        let mut lexer = Self {
            text,
            at: 0,
            line: 1,
            line_start: 0,
            next: nothing,
            tokens: 0,
            line_comments: Vec::new(),
        };
        lexer.take()?;
        Ok(lexer)
    }

    fn fault(&self, why: &'static str) -> GoModError {
        GoModError {
            line: self.line,
            why,
        }
    }

    /// Gives the next token and reads the one after it.
    fn take(&mut self) -> Result<Token<'a>, GoModError> {
        let taken = self.next;
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            return Err(self.fault("more words and lines than any go.mod has"));
        }
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
        let (start, line) = (self.at, self.line);
        let kind = self.scan()?;
        let mut text = &self.text[start..self.at];
        if matches!(kind, Kind::Comment | Kind::LineComment) {
            text = text.trim_end_matches(['\n', '\r']);
        }
        if kind == Kind::LineComment {
            self.line_comments.push((start, text));
        }
        self.next = Token {
            kind,
            text,
            start,
            end: self.at,
            line,
            end_line: self.line,
        };
        Ok(taken)
    }

    /// Moves over one token.
    fn scan(&mut self) -> Result<Kind, GoModError> {
        let rest = &self.text[self.at..];
        if rest.starts_with("//") {
            let alone = self.text[self.line_start..self.at].trim().is_empty();
            match rest.find('\n') {
                Some(newline) => {
                    self.at += newline;
                    self.newline();
                }
                None => self.at = self.text.len(),
            }
            return Ok(if alone {
                Kind::Comment
            } else {
                Kind::LineComment
            });
        }
        let Some(first) = rest.chars().next() else {
            return Ok(Kind::End);
        };
        match first {
            '\n' => {
                self.newline();
                Ok(Kind::Newline)
            }
            '(' | ')' | '[' | ']' | '{' | '}' | ',' => {
                self.at += 1;
                Ok(match first {
                    '(' => Kind::Open,
                    ')' => Kind::Close,
                    _ => Kind::Word,
                })
            }
            '"' | '`' => self.quoted(first),
            _ => self.word(rest),
        }
    }

    fn newline(&mut self) {
        self.at += 1;
        self.line += 1;
        self.line_start = self.at;
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, GoModError> {
        self.at += 1;
        loop {
            let Some(c) = self.text[self.at..].chars().next() else {
                return Err(self.fault("a string without its end"));
            };
            if c == '\n' {
                return Err(self.fault("a newline in a string"));
            }
            self.at += c.len_utf8();
            if c == quote {
                return Ok(Kind::Word);
            }
            if c == '\\' && quote == '"' {
                match self.text[self.at..].chars().next() {
                    None => return Err(self.fault("a string without its end")),
                    Some('\n') => self.newline(),
                    Some(escaped) => self.at += escaped.len_utf8(),
                }
            }
        }
    }

    fn word(&mut self, rest: &str) -> Result<Kind, GoModError> {
        let in_word = |c: char| {
            !matches!(c, ' ' | '(' | ')' | '[' | ']' | '{' | '}' | ',')
                && !c.is_whitespace()
                && is_printable(c)
        };
        let len = rest
            .char_indices()
            .find(|(at, c)| !in_word(*c) || rest[*at..].starts_with("//"))
            .map_or(rest.len(), |(at, _)| at);
        if rest[..len].contains("/*") {
            return Err(self.fault("a /* comment; go.mod has // comments alone"));
        }
        if len == 0 {
            return Err(self.fault("a character that no word has"));
        }
        self.at += len;
        Ok(Kind::Word)
    }
}

/// Something that may take the comments behind it.
struct Anchor {
    end: usize,
    /// The statement, and the line in its block; `None` where nobody asks for the comments.
    owner: Option<(usize, Option<usize>)>,
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    statements: Vec<Statement<'a>>,
    /// By their ends, what is inside before what it is in.
    anchors: Vec<Anchor>,
}

impl<'a> Parser<'a> {
    fn file(&mut self) -> Result<(), GoModError> {
        let mut above: Vec<&'a str> = Vec::new();
        let mut above_at = 0;
        loop {
            match self.lexer.next.kind {
                Kind::Comment => {
                    let comment = self.lexer.take()?;
                    if above.is_empty() {
                        above_at = comment.start;
                    }
                    above.push(comment.text);
                }
                kind @ (Kind::Newline | Kind::End) => {
                    // Comments that stand for themselves.
                    if !above.is_empty() {
                        above.clear();
                        self.anchor(above_at, None);
                    }
                    if kind == Kind::End {
                        return Ok(());
                    }
                    self.lexer.take()?;
                }
                _ => {
                    let mut statement = self.statement()?;
                    statement.head.comments.before = std::mem::take(&mut above);
                    self.statements.push(statement);
                }
            }
        }
    }

    fn anchor(&mut self, end: usize, owner: Option<(usize, Option<usize>)>) {
        self.anchors.push(Anchor { end, owner });
    }

    fn statement(&mut self) -> Result<Statement<'a>, GoModError> {
        let index = self.statements.len();
        let first = self.lexer.take()?;
        let mut last = first;
        let mut words = vec![first.text];
        let head = |words| Line {
            number: first.line,
            words,
            comments: Comments::default(),
        };
        loop {
            let token = self.lexer.take()?;
            if token.kind.ends_line() {
                if first.line == last.end_line {
                    self.anchor(last.end, Some((index, None)));
                }
                return Ok(Statement {
                    head: head(words),
                    block: None,
                });
            }
            if token.kind != Kind::Open {
                words.push(token.text);
                last = token;
                continue;
            }
            let next = self.lexer.next.kind;
            if next.ends_line() {
                self.anchor(token.end, None);
                let block = self.block(index, first)?;
                return Ok(Statement {
                    head: head(words),
                    block: Some(block),
                });
            }
            words.push(token.text);
            if next == Kind::Close {
                let close = self.lexer.take()?;
                if self.lexer.next.kind.ends_line() {
                    self.lexer.take()?;
                    words.pop();
                    self.anchor(token.end, None);
                    self.close(index, first, close);
                    return Ok(Statement {
                        head: head(words),
                        block: Some(Vec::new()),
                    });
                }
                words.push(close.text);
            }
        }
    }

    /// Notes the end of a block, which takes comments itself only if it is all on one line.
    fn close(&mut self, index: usize, first: Token<'a>, close: Token<'a>) {
        let owner = (first.line == close.line).then_some((index, None));
        self.anchor(close.end, owner);
    }

    fn block(&mut self, index: usize, first: Token<'a>) -> Result<Vec<Line<'a>>, GoModError> {
        let mut lines: Vec<Line<'a>> = Vec::new();
        let mut before: Vec<&'a str> = Vec::new();
        loop {
            match self.lexer.next.kind {
                Kind::LineComment => {
                    self.lexer.take()?;
                }
                Kind::Newline => {
                    self.lexer.take()?;
                    let blank = before.last().map(|comment| comment.is_empty());
                    if blank == Some(false) || blank.is_none() && !lines.is_empty() {
                        before.push("");
                    }
                }
                Kind::Comment => before.push(self.lexer.take()?.text),
                Kind::End => {
                    return Err(GoModError {
                        line: first.line,
                        why: "a block without its closing parenthesis",
                    });
                }
                Kind::Close => {
                    let close = self.lexer.take()?;
                    if !self.lexer.next.kind.ends_line() {
                        return Err(self.lexer.fault("something behind a closing parenthesis"));
                    }
                    self.lexer.take()?;
                    self.close(index, first, close);
                    return Ok(lines);
                }
                Kind::Word | Kind::Open => {
                    let mut line = self.line((index, lines.len()))?;
                    line.comments.before = std::mem::take(&mut before);
                    lines.push(line);
                }
            }
        }
    }

    fn line(&mut self, (statement, line): (usize, usize)) -> Result<Line<'a>, GoModError> {
        let first = self.lexer.take()?;
        let mut last = first;
        let mut words = vec![first.text];
        loop {
            let token = self.lexer.take()?;
            if token.kind.ends_line() {
                if first.line == last.end_line {
                    self.anchor(last.end, Some((statement, Some(line))));
                }
                return Ok(Line {
                    number: first.line,
                    words,
                    comments: Comments::default(),
                });
            }
            words.push(token.text);
            last = token;
        }
    }

    /// Gives each comment behind something to the last thing that ends before it.
    fn finish(mut self) -> Vec<Statement<'a>> {
        let mut comments = self.lexer.line_comments;
        for anchor in self.anchors.iter().rev() {
            let first = comments.partition_point(|(start, _)| *start < anchor.end);
            let Some((statement, line)) = anchor.owner else {
                comments.truncate(first);
                continue;
            };
            let statement = &mut self.statements[statement];
            let owner = match (line, &mut statement.block) {
                (Some(line), Some(lines)) => &mut lines[line],
                _ => &mut statement.head,
            };
            let taken = comments.drain(first..).map(|(_, text)| text);
            owner.comments.suffix.extend(taken);
        }
        self.statements
    }
}
