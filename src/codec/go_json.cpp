#include "codec/go_json.hpp"

#include "base/result.hpp"
#include "codec/base64.hpp"

#include <array>
#include <charconv>
#include <cmath>

namespace cooper::codec {

namespace {

constexpr std::string_view kHex = "0123456789abcdef";

// The length of the valid UTF-8 sequence at the beginning of text, 0 when there is none (RFC 3629: no surrogates, no
// overlong forms).
std::size_t sequence_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<std::uint8_t>(text[i]) : 0U; };
    const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first >= 0xC2 && first <= 0xDF) return tail(1) ? 2 : 0;
    if (first >= 0xE0 && first <= 0xEF) {
        const bool second = tail(1) && !(first == 0xE0 && byte(1) < 0xA0) && !(first == 0xED && byte(1) > 0x9F);
        return second && tail(2) ? 3 : 0;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        const bool second = tail(1) && !(first == 0xF0 && byte(1) < 0x90) && !(first == 0xF4 && byte(1) > 0x8F);
        return second && tail(2) && tail(3) ? 4 : 0;
    }
    return 0;
}

void append_ascii(std::string& out, char c) {
    switch (c) {
        case '"':
            out += "\\\"";
            return;
        case '\\':
            out += "\\\\";
            return;
        case '\b':
            out += "\\b";
            return;
        case '\f':
            out += "\\f";
            return;
        case '\n':
            out += "\\n";
            return;
        case '\r':
            out += "\\r";
            return;
        case '\t':
            out += "\\t";
            return;
        default:
            break;
    }
    const auto code = static_cast<std::uint8_t>(c);
    if (code < 0x20 || c == '<' || c == '>' || c == '&') {
        out += "\\u00";
        out += kHex[code >> 4];
        out += kHex[code & 15];
    } else {
        out += c;
    }
}

}  // namespace

void append_go_json_string(std::string& out, std::string_view text) {
    out += '"';
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t length = sequence_length(text.substr(i, 4));
        if (length == 1) {
            append_ascii(out, text[i]);
        } else if (length == 0) {
            out += "\\ufffd";
        } else {
            const std::string_view sequence = text.substr(i, length);
            if (sequence == "\xE2\x80\xA8") {
                out += "\\u2028";
            } else if (sequence == "\xE2\x80\xA9") {
                out += "\\u2029";
            } else {
                out += sequence;
            }
        }
        i += length == 0 ? 1 : length;
    }
    out += '"';
}

void GoJson::new_line() {
    if (indent_.empty()) return;
    out_ += '\n';
    for (std::size_t i = 0; i < levels_.size(); ++i) out_ += indent_;
}

void GoJson::before_value() {
    if (after_key_) {
        after_key_ = false;
        return;
    }
    if (levels_.empty()) {
        CHECK(out_.empty());
        return;
    }
    Level& level = levels_.back();
    CHECK(!level.object);
    if (!level.empty) out_ += ',';
    level.empty = false;
    new_line();
}

void GoJson::open(char bracket) {
    before_value();
    out_ += bracket;
    levels_.push_back({.object = bracket == '{', .empty = true});
}

void GoJson::close(char bracket) {
    CHECK(!levels_.empty() && !after_key_ && levels_.back().object == (bracket == '}'));
    const bool empty = levels_.back().empty;
    levels_.pop_back();
    if (!empty) new_line();
    out_ += bracket;
}

GoJson& GoJson::begin_object() { return open('{'), *this; }
GoJson& GoJson::end_object() { return close('}'), *this; }
GoJson& GoJson::begin_array() { return open('['), *this; }
GoJson& GoJson::end_array() { return close(']'), *this; }

GoJson& GoJson::key(std::string_view name) {
    CHECK(!levels_.empty() && levels_.back().object && !after_key_);
    if (!levels_.back().empty) out_ += ',';
    levels_.back().empty = false;
    new_line();
    append_go_json_string(out_, name);
    out_ += indent_.empty() ? ":" : ": ";
    after_key_ = true;
    return *this;
}

GoJson& GoJson::string(std::string_view text) {
    before_value();
    append_go_json_string(out_, text);
    return *this;
}

GoJson& GoJson::bytes(std::string_view raw_bytes) {
    before_value();
    out_ += '"';
    out_ += base64_encode(raw_bytes);
    out_ += '"';
    return *this;
}

GoJson& GoJson::integer(std::int64_t value) {
    before_value();
    out_ += std::to_string(value);
    return *this;
}

GoJson& GoJson::unsigned_integer(std::uint64_t value) {
    before_value();
    out_ += std::to_string(value);
    return *this;
}

// ES6 number formatting: shortest digits, exponent only below 1e-6 and from 1e21 on, "e-09" as "e-9".
GoJson& GoJson::number(double value) {
    CHECK(std::isfinite(value));
    before_value();
    const double magnitude = std::fabs(value);
    const bool exponent = magnitude != 0 && (magnitude < 1e-6 || magnitude >= 1e21);
    std::array<char, 64> buffer{};
    const auto done = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                    exponent ? std::chars_format::scientific : std::chars_format::fixed);
    std::string text(buffer.data(), done.ptr);
    const std::size_t n = text.size();
    if (exponent && n >= 4 && text.compare(n - 4, 3, "e-0") == 0) text.erase(n - 2, 1);
    out_ += text;
    return *this;
}

GoJson& GoJson::boolean(bool value) {
    before_value();
    out_ += value ? "true" : "false";
    return *this;
}

GoJson& GoJson::null() {
    before_value();
    out_ += "null";
    return *this;
}

GoJson& GoJson::raw(std::string_view json) {
    before_value();
    out_ += json;
    return *this;
}

GoJson& GoJson::strings(std::span<const std::string> list) {
    begin_array();
    for (const auto& text : list) string(text);
    return end_array();
}

GoJson& GoJson::map(const std::map<std::string, std::string>& map) {
    begin_object();
    for (const auto& [name, text] : map) field(name, text);
    return end_object();
}

const std::string& GoJson::text() const {
    CHECK(levels_.empty() && !after_key_ && !out_.empty());
    return out_;
}

std::string GoJson::take() && {
    CHECK(levels_.empty() && !after_key_ && !out_.empty());
    return std::move(out_);
}

}  // namespace cooper::codec
