#include "dockerfile/csv.hpp"

#include "base/text.hpp"

namespace cooper::dockerfile {

Result<std::vector<std::string>> parse_csv_line(std::string_view line) {
    std::vector<std::string> fields;
    std::size_t at = 0;
    while (true) {
        std::string field;
        if (at < line.size() && line[at] == '"') {
            ++at;
            while (true) {
                const std::size_t end = line.find('"', at);
                if (end == std::string_view::npos) return bad_input("quote is not closed in {}", quoted(line));
                field += line.substr(at, end - at);
                at = end + 1;
                if (at >= line.size() || line[at] != '"') break;
                field += '"';
                ++at;
            }
            if (at < line.size() && line[at] != ',')
                return bad_input("unexpected text after a quoted field in {}", quoted(line));
        } else {
            const std::size_t end = std::min(line.find(',', at), line.size());
            field = line.substr(at, end - at);
            if (field.find('"') != std::string::npos) {
                return bad_input("a quote inside the field {}", quoted(field))
                    .with_hint("put the whole field in quotes and double those inside");
            }
            at = end;
        }
        fields.push_back(std::move(field));
        if (at >= line.size()) return fields;
        ++at;
    }
}

}  // namespace cooper::dockerfile
