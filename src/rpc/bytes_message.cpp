#include "rpc/bytes_message.hpp"

#include <array>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

namespace cooper::rpc {

namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

constexpr std::uint32_t kData = WireFormatLite::MakeTag(1, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);

}  // namespace

void wrap_bytes(std::string_view data, std::string& message) {
    std::array<std::uint8_t, 6> header{static_cast<std::uint8_t>(kData)};
    const std::uint8_t* end =
        CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(data.size()), header.data() + 1);
    message.reserve(header.size() + data.size());
    message.assign(reinterpret_cast<const char*>(header.data()), static_cast<std::size_t>(end - header.data()));
    message.append(data);
}

Result<std::string_view> unwrap_bytes(std::string_view message) {
    CodedInputStream in(reinterpret_cast<const std::uint8_t*>(message.data()), static_cast<int>(message.size()));
    std::string_view data;
    while (const std::uint32_t tag = in.ReadTag()) {
        std::uint32_t size = 0;
        if (tag != kData) {
            if (!WireFormatLite::SkipField(&in, tag)) return bad_input("malformed message of bytes");
            continue;
        }
        if (!in.ReadVarint32(&size) || size > message.size() - static_cast<std::size_t>(in.CurrentPosition())) {
            return bad_input("malformed message of bytes");
        }
        data = message.substr(static_cast<std::size_t>(in.CurrentPosition()), size);
        in.Skip(static_cast<int>(size));
    }
    if (!in.ConsumedEntireMessage()) return bad_input("malformed message of bytes");
    return data;
}

}  // namespace cooper::rpc
