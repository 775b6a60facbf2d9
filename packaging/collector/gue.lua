-- Wireshark and tshark: dissects GUE of variant 0 (draft-ietf-intarea-gue-09) on UDP port 6080, and what is in it.
--   tshark -X lua_script:gue.lua -i eth0 -f "udp port 6080"
local PORT = 6080
local gue = Proto("gue", "Generic UDP Encapsulation")
local variant = ProtoField.uint8("gue.variant", "Variant", base.DEC, nil, 0xc0)
local control = ProtoField.bool("gue.control", "Control message", 8, nil, 0x20)
local words = ProtoField.uint8("gue.hlen", "Length of optional fields, in 32-bit words", base.DEC, nil, 0x1f)
local protocol = ProtoField.uint8("gue.protocol", "IP protocol")
local flags = ProtoField.uint16("gue.flags", "Flags", base.HEX)
gue.fields = { variant, control, words, protocol, flags }

function gue.dissector(buffer, packet, tree)
  if buffer:len() < 4 then
    return 0
  end
  local first = buffer(0, 1):uint()
  if bit.rshift(first, 6) ~= 0 then
    return 0
  end
  local length = 4 + 4 * bit.band(first, 0x1f)
  if buffer:len() < length then
    return 0
  end
  local shown = tree:add(gue, buffer(0, length))
  shown:add(variant, buffer(0, 1))
  shown:add(control, buffer(0, 1))
  shown:add(words, buffer(0, 1))
  shown:add(protocol, buffer(1, 1))
  shown:add(flags, buffer(2, 2))
  if bit.band(first, 0x20) == 0 and buffer:len() > length then
    DissectorTable.get("ip.proto"):try(buffer(1, 1):uint(), buffer(length):tvb(), packet, tree)
  end
  return buffer:len()
end

DissectorTable.get("udp.port"):add(PORT, gue)
