#include "llb/detail/go_text.hpp"

namespace cooper::llb::detail {

namespace {

constexpr std::string_view kHex = "0123456789abcdef";

// Length of the UTF-8 sequence at the start of text, 0 when it is none (overlong, surrogate, cut off).
std::size_t sequence(std::string_view text) {
    const auto byte = [&](std::size_t i) -> unsigned {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
    };
    const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
    if (lead >= 0xE0 && lead <= 0xEF) {
        if (!tail(1) || !tail(2)) return 0;
        if (lead == 0xE0 && byte(1) < 0xA0) return 0;
        if (lead == 0xED && byte(1) > 0x9F) return 0;
        return 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        if (!tail(1) || !tail(2) || !tail(3)) return 0;
        if (lead == 0xF0 && byte(1) < 0x90) return 0;
        if (lead == 0xF4 && byte(1) > 0x8F) return 0;
        return 4;
    }
    return 0;
}

void append_ascii(std::string& out, unsigned char byte) {
    switch (byte) {
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
    if (byte < 0x20 || byte == '<' || byte == '>' || byte == '&') {
        out += "\\u00";
        out += kHex[byte >> 4U];
        out += kHex[byte & 15U];
        return;
    }
    out += static_cast<char>(byte);
}

}  // namespace

void append_json_text(std::string& out, std::string_view text) {
    out += '"';
    while (!text.empty()) {
        const std::size_t size = sequence(text);
        const std::string_view here = text.substr(0, size == 0 ? 1 : size);
        if (size == 0) {
            out += "\\ufffd";
        } else if (size == 1) {
            append_ascii(out, static_cast<unsigned char>(here.front()));
        } else if (here == "\xE2\x80\xA8") {
            out += "\\u2028";
        } else if (here == "\xE2\x80\xA9") {
            out += "\\u2029";
        } else {
            out += here;
        }
        text.remove_prefix(here.size());
    }
    out += '"';
}

std::string base64(std::string_view bytes) {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const auto byte = [&](std::size_t at) -> unsigned {
            return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0U;
        };
        const unsigned group = (byte(i) << 16U) | (byte(i + 1) << 8U) | byte(i + 2);
        out += kAlphabet[group >> 18U];
        out += kAlphabet[(group >> 12U) & 63U];
        out += i + 1 < bytes.size() ? kAlphabet[(group >> 6U) & 63U] : '=';
        out += i + 2 < bytes.size() ? kAlphabet[group & 63U] : '=';
    }
    return out;
}

std::string json_array(const std::vector<std::string>& values) {
    if (values.empty()) return {};
    std::string out = "[";
    for (const std::string& value : values) {
        if (out.size() > 1) out += ',';
        append_json_text(out, value);
    }
    return out + "]";
}

std::string json_list(const std::vector<std::string>& elements) {
    std::string out = "[";
    for (const std::string& element : elements) {
        if (out.size() > 1) out += ',';
        out += element;
    }
    return out + "]";
}

void GoObject::text_map(std::string_view name, const std::map<std::string, std::string>& values) {
    if (values.empty()) return;
    GoObject inner;
    for (const auto& [key, value] : values) inner.always_text(key, value);
    always_raw(name, inner.take());
}

}  // namespace cooper::llb::detail
