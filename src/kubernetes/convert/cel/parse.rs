//! Reads an expression: words and signs first, then what they are to each other.

use super::{Method, Node, Place, Relation, Value, version};
use crate::model::contract::cut;
use crate::model::quantity;

/// Longest expression that is read, as upstream's limit.
const LENGTH_MAX: usize = 10 * 1024;
/// Deepest nesting that is read, and most signs and words: evaluation goes as deep.
const DEPTH_MAX: usize = 64;
const TOKENS_MAX: usize = 1000;

/// Reads an expression.
///
/// # Errors
/// What in it is not understood.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("it is longer than {LENGTH_MAX} bytes"));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let node = parser.any()?;
    match parser.peek() {
        None => Ok(node),
        Some(token) => Err(format!("{} is not understood", token.shown())),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(Box<str>),
    Text(Box<str>),
    Number(i64),
    Sign(&'static str),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Word(word) => cut(word).into(),
            Self::Text(text) => format!("{:?}", cut(text)),
            Self::Number(number) => number.to_string(),
            Self::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// Longer ones first.
const SIGNS: [&str; 17] =
    ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ".", ",", "-", "?"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if first == '"' || first == '\'' {
            let (text, len) = quoted(rest, first)?;
            found.push(Token::Text(text.into()));
            len
        } else if first.is_ascii_digit() {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let number = rest[..len].parse();
            let number = number.map_err(|_| format!("{} is not understood", &rest[..len]))?;
            found.push(Token::Number(number));
            len
        } else if first.is_ascii_alphabetic() || first == '_' {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            found.push(Token::Word(rest[..len].into()));
            len
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("{first} is not understood"))?;
            found.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[len..].trim_start();
        if found.len() > TOKENS_MAX {
            return Err(format!("it has more than {TOKENS_MAX} signs and words"));
        }
    }
    Ok(found)
}

/// A text and how long it is with its quotes. Of what follows a backslash only quotes and the
/// backslash itself are understood.
fn quoted(rest: &str, quote: char) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\'' | '\\'))) => text.push(c),
                _ => return Err("an escape in a text is not understood".to_owned()),
            },
            c if c == quote => return Ok((text, at + 1)),
            c => text.push(c),
        }
    }
    Err("a text has no end".to_owned())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(is_next);
        is_next
    }

    fn must(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected(&format!("{sign:?}"))) }
    }

    fn unexpected(&self, wanted: &str) -> String {
        let found = self.peek().map_or_else(|| "its end".to_owned(), Token::shown);
        format!("{found} is not understood: expected {wanted}")
    }

    fn any(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("it is nested too deeply".to_owned());
        }
        let mut node = self.all()?;
        while self.takes("||") {
            node = Node::Or(node.into(), self.all()?.into());
        }
        self.depth -= 1;
        Ok(node)
    }

    fn all(&mut self) -> Result<Node, String> {
        let mut node = self.relation()?;
        while self.takes("&&") {
            node = Node::And(node.into(), self.relation()?.into());
        }
        Ok(node)
    }

    fn relation(&mut self) -> Result<Node, String> {
        let one = self.unary()?;
        let relation = match self.peek() {
            Some(Token::Sign("==")) => Relation::Equal,
            Some(Token::Sign("!=")) => Relation::Unequal,
            Some(Token::Sign("<=")) => Relation::AtMost,
            Some(Token::Sign(">=")) => Relation::AtLeast,
            Some(Token::Sign("<")) => Relation::Less,
            Some(Token::Sign(">")) => Relation::Greater,
            Some(Token::Word(word)) if &**word == "in" => Relation::In,
            _ => return Ok(one),
        };
        self.at += 1;
        Ok(Node::Relation(relation, one.into(), self.unary()?.into()))
    }

    fn unary(&mut self) -> Result<Node, String> {
        let mut negations = 0;
        while self.takes("!") {
            negations += 1;
        }
        if negations == 0 && self.takes("-") {
            let Some(Token::Number(number)) = self.peek() else {
                return Err(self.unexpected("a number"));
            };
            let number = -number;
            self.at += 1;
            return Ok(Node::Constant(Value::Number(number)));
        }
        let node = self.postfix()?;
        Ok((0..negations).fold(node, |node, _| Node::Not(node.into())))
    }

    fn postfix(&mut self) -> Result<Node, String> {
        let mut node = self.primary()?;
        loop {
            if self.takes("[") {
                let name = self.any()?;
                self.must("]")?;
                node = Node::Member(node.into(), name.into());
            } else if self.takes(".") {
                let word = self.word()?;
                if !self.takes("(") {
                    let name = Node::Constant(Value::Text(word));
                    node = Node::Member(node.into(), name.into());
                    continue;
                }
                let method = match &*word {
                    "compareTo" => Method::CompareTo,
                    "isGreaterThan" => Method::IsGreaterThan,
                    "isLessThan" => Method::IsLessThan,
                    "startsWith" => Method::StartsWith,
                    "endsWith" => Method::EndsWith,
                    "contains" => Method::Contains,
                    other => return Err(format!("{other}() is not understood")),
                };
                let argument = self.any()?;
                self.must(")")?;
                node = Node::Call(method, node.into(), argument.into());
            } else {
                return Ok(node);
            }
        }
    }

    fn word(&mut self) -> Result<Box<str>, String> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn primary(&mut self) -> Result<Node, String> {
        if self.takes("(") {
            let node = self.any()?;
            self.must(")")?;
            return Ok(node);
        }
        if self.takes("[") {
            let mut nodes = Vec::new();
            while !self.takes("]") {
                nodes.push(self.any()?);
                if !self.takes(",") {
                    self.must("]")?;
                    break;
                }
            }
            return Ok(Node::List(nodes));
        }
        let token = self.peek().cloned();
        let Some(token) = token.filter(|token| !matches!(token, Token::Sign(_))) else {
            return Err(self.unexpected("a value"));
        };
        self.at += 1;
        match token {
            Token::Text(text) => Ok(Node::Constant(Value::Text(text))),
            Token::Number(number) => Ok(Node::Constant(Value::Number(number))),
            Token::Word(word) => self.named(&word),
            Token::Sign(_) => Err(self.unexpected("a value")),
        }
    }

    fn named(&mut self, word: &str) -> Result<Node, String> {
        match word {
            "true" | "false" => Ok(Node::Constant(Value::Bool(word == "true"))),
            "device" => self.device(),
            "has" => {
                self.must("(")?;
                let node = self.any()?;
                self.must(")")?;
                match node {
                    Node::Member(..) => Ok(Node::Has(node.into())),
                    _ => Err("has() of anything but an attribute is not understood".to_owned()),
                }
            }
            "quantity" | "semver" => {
                self.must("(")?;
                let Some(Token::Text(text)) = self.peek().cloned() else {
                    return Err(self.unexpected("a text"));
                };
                self.at += 1;
                self.must(")")?;
                let value = match word {
                    "quantity" => quantity::parse(&text, 0).map(Value::Quantity),
                    _ => version(&text).map(Value::Version),
                };
                value.map(Node::Constant).ok_or_else(|| format!("{text:?} is not understood"))
            }
            other => Err(format!("{} is not understood", cut(other))),
        }
    }

    fn device(&mut self) -> Result<Node, String> {
        self.must(".")?;
        let place = match &*self.word()? {
            "driver" => return Ok(Node::Driver),
            "attributes" => Place::Attributes,
            "capacity" => Place::Capacity,
            other => return Err(format!("device.{other} is not understood")),
        };
        self.must("[")?;
        let domain = self.any()?;
        self.must("]")?;
        Ok(Node::Domain(place, domain.into()))
    }
}
