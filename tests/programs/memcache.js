// SPDX-License-Identifier: BSD-2-Clause
// node memcache.js HOST PORT CONNECTIONS OPERATIONS: each connection sets and gets values of its own, one at a time, and compares
// every byte of every answer. Prints how many answers were right.
const net = require('net');
const [host, port, connections, operations] = process.argv.slice(2);
let good = 0;

function value(connection, i) {
	const length = (connection * 7919 + i * 104729) % 400 + 1;
	return Buffer.alloc(length, `${connection}:${i};`);
}

function run(connection) {
	const socket = net.connect(Number(port), host);
	let i = 0, asked, wanted, got = [], length = 0;
	function ask() {
		if (i === Number(operations))
			return socket.end();
		const v = value(connection, i - i % 2);
		const key = `k${connection}-${i % 64 - i % 2}`;
		asked = i++ % 2 ? 'get' : 'set';
		wanted = Buffer.from(asked === 'set' ? 'STORED\r\n' : `VALUE ${key} 7 ${v.length}\r\n${v}\r\nEND\r\n`);
		socket.write(asked === 'set' ? `set ${key} 7 0 ${v.length}\r\n${v}\r\n` : `get ${key}\r\n`);
	}
	socket.setNoDelay(true);
	socket.on('connect', ask);
	socket.on('data', (chunk) => {
		got.push(chunk);
		length += chunk.length;
		if (length < wanted.length)
			return;
		if (!Buffer.concat(got).equals(wanted))
			throw new Error(`connection ${connection}, operation ${i}: ${Buffer.concat(got)} is not ${wanted}`);
		good++;
		got = [];
		length = 0;
		ask();
	});
	socket.on('close', () => {
		if (--left === 0)
			console.log(good);
	});
}

let left = Number(connections);
for (let c = 0; c < Number(connections); c++)
	run(c);
