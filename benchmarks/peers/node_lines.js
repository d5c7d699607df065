// Node: lines split from "data" events, one write a line.
"use strict";

const net = require("node:net");

const FEED = 10;

/** Answer each line of a connection with itself. */
function answerLines(socket) {
  let rest = null;
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.on("data", (data) => {
    const bytes = rest === null ? data : Buffer.concat([rest, data]);
    let begin = 0;
    for (let feed; (feed = bytes.indexOf(FEED, begin)) !== -1; begin = feed + 1) {
      socket.write(bytes.subarray(begin, feed + 1));
    }
    rest = begin < bytes.length ? bytes.subarray(begin) : null;
  });
}

const server = net.createServer(answerLines);
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 }, () => {
  console.log("ready");
});
